"""Convolutions along latent time (spec 10, sections 6.2 and 10)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.dispatch import inference_kernels_take


def symmetric_short_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise filter w0 ... w_{K-2} w_{K-1} w_{K-2} ... w0 along time, zero padded.

    A causal pass and its mirror image with the centre tap counted once.

    Args:
        x: (B, T, S, C).
        weight: (C, 1, K); the last tap meets the current frame.
    """
    taps = weight[:, 0].unbind(-1)
    reach = min(len(taps), x.shape[1]) - 1
    out = x * taps[-1]
    for offset in range(1, reach + 1):
        tap = taps[-1 - offset]
        past = F.pad(x[:, :-offset], (0, 0, 0, 0, offset, 0))
        future = F.pad(x[:, offset:], (0, 0, 0, 0, 0, offset))
        out = out + (past + future) * tap
    return out


def temporal_residual(x: Tensor, weight: Tensor) -> Tensor:
    """x + temporal_mix(x, weight).

    Where kernels take the tokens the three taps are added up by the products themselves, in place, so that no
    three times wider copy of the tokens is made.
    """
    if not inference_kernels_take(x):
        return x + temporal_mix(x, weight)
    x = x.contiguous()
    before, here, after = weight[..., 0].to(x.dtype).unbind(-1)
    out = torch.addmm(x.flatten(0, 2), x.flatten(0, 2), here.t()).view_as(x)
    for made, given in zip(out, x, strict=True):
        if len(given) > 1:
            made[1:].flatten(0, 1).addmm_(given[:-1].flatten(0, 1), before.t())
            made[:-1].flatten(0, 1).addmm_(given[1:].flatten(0, 1), after.t())
    return out


def temporal_mix(x: Tensor, weight: Tensor) -> Tensor:
    """Dense three-frame convolution per spatial position, zero padded, no bias.

    Args:
        x: (B, T, S, C).
        weight: (C_out, C, 3, 1), taps for the frame before, the frame itself and the frame after.
    """
    before = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0))
    after = F.pad(x[:, 1:], (0, 0, 0, 0, 0, 1))
    taps = weight[..., 0].permute(0, 2, 1).flatten(1)  # (C_out, 3*C), one product instead of three
    return F.linear(torch.cat([before, x, after], dim=-1), taps)
