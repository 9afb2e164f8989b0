"""Eight-bit storage of weights: what the bundled nano model is shipped as.

A tensor `<key>` with two or more dimensions and at least `MIN_QUANTIZED` numbers becomes int8 `<key>` and float32
`<key>.scale`, one scale per output channel (first dimension), symmetric: weight = int8 * scale, so the error is at
most scale / 2, with scale = max|weight of the channel| / 127. Smaller tensors are stored as float16, or as float32
where float16 would hurt. A file stored this way says so in its metadata: ``{"storage": "int8"}``. Only the storage is
eight-bit; computation is not.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sana_wm.checkpoints.layout import stays_float32
from sana_wm.errors import InputError

METADATA = {"storage": "int8"}
SCALE_SUFFIX = ".scale"
MIN_QUANTIZED = 4096
LEVELS = 127


def quantize_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compress a state dict of float tensors, on the CPU.

    Raises:
        InputError: a tensor is not floating point, is not finite, or is called like the scale of another one.
    """
    stored: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{key} is {tensor.dtype}; only finite floating-point tensors can be stored in eight bits")
        weight = tensor.detach().to("cpu", torch.float32)
        if _is_quantized(weight) and not stays_float32(key):
            if key + SCALE_SUFFIX in state:
                raise InputError(f"{key}{SCALE_SUFFIX} is a tensor, and would be the scale of {key} too; rename one")
            stored[key], stored[key + SCALE_SUFFIX] = _quantize(weight)
        else:
            stored[key] = weight if stays_float32(key) or not _fits_float16(weight) else weight.half()
    return stored


def dequantize_state(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`quantize_state`; every tensor comes back as float32.

    Raises:
        InputError: an int8 tensor has no scale, or one that does not fit it.
    """
    return {
        key: dequantize(key, tensor, stored.get(key + SCALE_SUFFIX))
        for key, tensor in stored.items()
        if not is_scale(key, stored)
    }


def is_scale(key: str, stored: Mapping[str, Tensor]) -> bool:
    """Whether `key` names the scale of an int8 tensor in `stored`."""
    owner = stored.get(key.removesuffix(SCALE_SUFFIX)) if key.endswith(SCALE_SUFFIX) else None
    return owner is not None and owner.dtype == torch.int8


def dequantize(key: str, tensor: Tensor, scale: Tensor | None) -> Tensor:
    """One tensor as float32; `scale` is only looked at when `tensor` is int8."""
    if tensor.dtype != torch.int8:
        return tensor.float()
    if scale is None or tuple(scale.shape) != tuple(tensor.shape[:1]):
        found = "no scale" if scale is None else f"a scale of shape {tuple(scale.shape)}"
        raise InputError(f"int8 tensor {key} of shape {tuple(tensor.shape)} has {found}; it needs one number a channel")
    return tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))


def _is_quantized(weight: Tensor) -> bool:
    return weight.ndim >= 2 and weight.numel() >= MIN_QUANTIZED


def _quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.flatten(1).abs().amax(1) / LEVELS
    # A channel of zeros (or of denormals whose scale vanishes) is stored as zeros; any scale would do.
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale)).view(-1, *[1] * (weight.ndim - 1))
    levels = (weight / divisor).round().clamp(-LEVELS, LEVELS)
    return levels.to(torch.int8), scale


def _fits_float16(weight: Tensor) -> bool:
    return weight.numel() == 0 or float(weight.abs().max()) <= torch.finfo(torch.float16).max
