"""What a causal 3x3x3 convolution reads: its input after two frames of the past, with a rim that mirrors it (spec 41).

Sum, norm and SiLU before it are taken on the way. :func:`causal_pad_plain` runs everywhere and defines the result. On a
CUDA device without gradients the kernel of `causal_pad_triton` does all of it in one pass over memory and leaves
channels last, the order in which the library's convolution is fastest; it would else bring them into it, and its
padding by reflection takes as long as the convolution.

Shapes: B videos, C channels, n frames of h x w pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.dispatch import inference_kernels_take

FRAMES_SEEN = 2
"""Frames that a causal convolution of three taps sees before the current one."""


def causal_pad(
    x: Tensor, before: Tensor | None, *, branch: Tensor | None = None, bias: Tensor | None = None,
    norm_eps: float | None = None, want_sum: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Pad x + branch + bias, or with `norm_eps` the SiLU of its RMSNorm over channels.

    Args:
        x: (B,C,n,h,w), h and w at least 2; branch: the same; bias: (C,).
        before: (B,C,2,h,w), the result's frames before the first; none before a video, which repeats its first frame.

    Returns:
        (B,C,n+2,h+2,w+2); the `before` of the next frames, a contiguous copy, so that the rest can be freed; and where
        it is wanted x + branch + bias.
    """
    if inference_kernels_take(x):
        from sana_wm.ops.causal_pad_triton import padded

        made, total = padded(x, before, branch, bias, norm_eps, want_sum)
        return made, _owned(made[:, :, -FRAMES_SEEN:, 1:-1, 1:-1]), total
    return causal_pad_plain(x, before, branch=branch, bias=bias, norm_eps=norm_eps, want_sum=want_sum)


def causal_pad_plain(
    x: Tensor, before: Tensor | None, *, branch: Tensor | None = None, bias: Tensor | None = None,
    norm_eps: float | None = None, want_sum: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """As :func:`causal_pad`."""
    if bias is not None:
        bias = bias.view(-1, 1, 1, 1)
        x = x + (bias if branch is None else branch + bias)
    elif branch is not None:
        x = x + branch
    made = x if norm_eps is None else F.silu(x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + norm_eps))
    if before is None:
        before = made[:, :, :1].expand(-1, -1, FRAMES_SEEN, -1, -1)
    made = torch.cat([before, made], dim=2)
    return F.pad(made, (1, 1, 1, 1, 0, 0), mode="reflect"), _owned(made[:, :, -FRAMES_SEEN:]), x if want_sum else None


def _owned(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)
