"""Softmax attention with explicit scales, by the fastest backend the library has for the inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sana_wm.ops.dispatch import kernels_take

HOPPER = (9, 0)
LEAST_TOKENS = 1024
"""Under so many tokens all backends cost about the same, and the library's own order holds."""


def attention_backends(q: Tensor, k: Tensor, bias: Tensor | None) -> list[SDPBackend] | None:
    """The backends to try, best first; None leaves the choice to the library.

    q: (B, N, h, D); k: (B, M, h, D). cuDNN needs 199 ms where the library's flash kernel needs 365 for 20 heads of 112
    channels and 106,480 tokens on an H100 (`benchmarks/attention_backends.py`). That is the forward pass, so with
    gradients the library's order holds.
    """
    half = q.dtype in (torch.bfloat16, torch.float16) and kernels_take(q)
    if torch.is_grad_enabled() or not half or bias is not None or min(q.shape[1], k.shape[1]) < LEAST_TOKENS:
        return None
    if torch.cuda.get_device_capability(q.device) < HOPPER:
        return None
    return [
        SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH
    ]  # fmt: skip


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T * scale + bias) v.

    Args:
        q, k, v: (B, N, h, D) and (B, M, h, D).
        bias: broadcasts to (B, h, N, M).

    Returns:
        (B, N, h, D).
    """
    heads = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    backends = attention_backends(q, k, bias)
    if backends is None:
        return F.scaled_dot_product_attention(*heads, attn_mask=bias, scale=scale).transpose(1, 2)
    with sdpa_kernel(backends, set_priority=True):
        return F.scaled_dot_product_attention(*heads, scale=scale).transpose(1, 2)
