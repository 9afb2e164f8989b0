"""Weights from files into a module that was built on the meta device, one tensor at a time."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from sana_wm.checkpoints.layout import stays_float32
from sana_wm.checkpoints.weights import WeightFiles, counted
from sana_wm.errors import InputError


def assign_weights(
    module: nn.Module,
    weights: WeightFiles,
    *,
    device: torch.device,
    dtype: torch.dtype,
    ignored: Collection[str] = (),
) -> None:
    """Give every parameter and persistent buffer of `module` its tensor from `weights`.

    Names, shapes and dtypes are checked before the first tensor is read; then each is moved to `device`, cast to
    `dtype` (float32 for the few that :func:`~sana_wm.checkpoints.layout.stays_float32` names) and put in place, so
    that at most one tensor exists twice.

    Args:
        ignored: names that may be in the files and are skipped; they may also be absent.

    Raises:
        InputError: a tensor is missing, unknown, of another shape, not floating point, or holds NaN or infinity.
    """
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    _check_names(expected, weights, ignored)
    for key in expected:
        tensor = weights.get(key).to(device=device, dtype=torch.float32 if stays_float32(key) else dtype)
        if not all_finite(tensor):
            raise InputError(f"{weights.where}: {key} holds NaN or infinity as {tensor.dtype}; the file is damaged")
        _put(module, key, tensor)
    left = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if left:
        raise RuntimeError(f"not in the state dict of {type(module).__name__}, so never loaded: {counted(left)}")


def _check_names(expected: dict[str, tuple[int, ...]], weights: WeightFiles, ignored: Collection[str]) -> None:
    found = weights.keys()
    missing = set(expected) - found
    if missing:
        raise InputError(f"{weights.where}: weights that the model needs are missing: {counted(missing)}")
    unknown = found - set(expected) - set(ignored)
    if unknown:
        raise InputError(f"{weights.where}: weights that the model does not have: {counted(unknown)}")
    wrong = {key for key in expected if weights.shape(key) != expected[key]}
    if wrong:
        key = min(wrong)
        raise InputError(
            f"{weights.where}: weights of another shape: {counted(wrong)}; "
            f"{key} is {weights.shape(key)} and must be {expected[key]}"
        )
    not_float = {key for key in expected if not weights.has_float(key)}
    if not_float:
        raise InputError(
            f"{weights.where}: weights that are not floating point: {counted(not_float)}; "
            "float64, float32, float16 and bfloat16 can be read"
        )


def all_finite(tensor: Tensor) -> bool:
    """Whether there is no NaN and no infinity: NaN passes through a minimum, and one pass without a mask is many times
    faster than asking every number."""
    return tensor.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _put(module: nn.Module, key: str, tensor: Tensor) -> None:
    path, _, leaf = key.rpartition(".")
    owner = module.get_submodule(path)
    old = getattr(owner, leaf)
    is_parameter = isinstance(old, nn.Parameter)
    setattr(owner, leaf, nn.Parameter(tensor, requires_grad=old.requires_grad) if is_parameter else tensor)
