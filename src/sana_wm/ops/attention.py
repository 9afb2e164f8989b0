"""Softmax attention with explicit scales."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T * scale + bias) v.

    Args:
        q, k, v: (B, N, h, D) and (B, M, h, D).
        bias: broadcasts to (B, h, N, M).

    Returns:
        (B, N, h, D).
    """
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias, scale=scale
    )
    return out.transpose(1, 2)
