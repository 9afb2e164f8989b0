"""Normalisations that run in float32 whatever comes in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x * rsqrt(mean(x^2) + eps) * weight over the last axis; float32 out."""
    x = x.float()
    if x.device.type == "cpu" and not torch.is_grad_enabled():
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # reads the tokens once and writes none
        return (x * torch.rsqrt(size.square_().div_(x.shape[-1]).add_(eps))).mul_(weight.float())
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.float()


def modulated_layer_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float = 1e-6) -> Tensor:
    """LayerNorm without affine, then x * (1 + scale) + shift; keeps x's dtype."""
    return F.layer_norm(x, (x.shape[-1],), eps=eps) * (1 + scale) + shift
