"""Softmax attention with explicit scales, by the fastest backend there is for the inputs."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sana_wm.ops.dispatch import kernels_take

HOPPER = (9, 0)
LEAST_TOKENS = 1024
"""Under so many tokens all backends cost about the same, and the library's own order holds."""
FLASH_ATTENTION_4 = "flash-attn-4"
"""The package of the extra `attention`."""
LIBRARY = "library"
CUDNN = "cudnn"
IN_ORDER = [
    SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH
]  # fmt: skip


def attention_backend(q: Tensor, k: Tensor, bias: Tensor | None) -> str:
    """Who computes an attention of q (B, N, h, D) and k (B, M, h, D): flash-attn-4, cudnn, or the library's own choice.

    A minute of the 2.6B model, 20 heads of 112 channels and 106,480 tokens, takes them 158, 208 and 363 ms on an H100
    (`benchmarks/attention_backends.py`). Those are forward passes: with gradients the library's order holds.
    """
    half = q.dtype in (torch.bfloat16, torch.float16) and kernels_take(q)
    if torch.is_grad_enabled() or not half or bias is not None or min(q.shape[1], k.shape[1]) < LEAST_TOKENS:
        return LIBRARY
    if torch.cuda.get_device_capability(q.device) < HOPPER:
        return LIBRARY
    fits = q.shape[-1] % 8 == 0 and q.shape[-1] <= 128
    return FLASH_ATTENTION_4 if fits and _has_flash_attention_4() else CUDNN


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T * scale + bias) v.

    Args:
        q, k, v: (B, N, h, D) and (B, M, h, D).
        bias: broadcasts to (B, h, N, M).

    Returns:
        (B, N, h, D).
    """
    backend = attention_backend(q, k, bias)
    if backend == FLASH_ATTENTION_4:
        return flash_attention_4(q, k, v, scale)
    heads = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if backend == LIBRARY:
        return F.scaled_dot_product_attention(*heads, attn_mask=bias, scale=scale).transpose(1, 2)
    with sdpa_kernel(IN_ORDER, set_priority=True):
        return F.scaled_dot_product_attention(*heads, scale=scale).transpose(1, 2)


def flash_attention_4(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The same by flash-attn-4, without gradients."""
    # What the package shows does not let tiles be chosen, and its own choice for heads between 96 and 112 channels is a
    # quarter slower than this one.
    from flash_attn.cute.interface import _flash_attn_fwd  # type: ignore[import-not-found]

    tiles = {"tile_mn": (192, 128), "mma_pv_is_rs": False, "intra_wg_overlap": True}
    out: Tensor = _flash_attn_fwd(q, k, v, softmax_scale=scale, **(tiles if 96 < q.shape[-1] <= 112 else {}))[0]
    return out


@cache
def _has_flash_attention_4() -> bool:
    # Version 2 installs a package of the same name, without this part.
    return all(importlib.util.find_spec(name) is not None for name in ("flash_attn", "flash_attn.cute"))
