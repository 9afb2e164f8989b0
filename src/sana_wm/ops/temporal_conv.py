"""Convolutions along latent time (spec 10, sections 6.2 and 10; in chunks spec 20, sections 2.1 and 2.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.dispatch import inference_kernels_take
from sana_wm.ops.parts import by_frames


def symmetric_short_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise filter w0 ... w_{K-2} w_{K-1} w_{K-2} ... w0 along time, zero padded.

    A causal pass and its mirror image with the centre tap counted once.

    Args:
        x: (B, T, S, C).
        weight: (C, 1, K); the last tap meets the current frame.
    """
    if x.device.type == "cpu":
        return _filtered_by_library(x, weight, padding=weight.shape[-1] - 1)
    taps = weight[:, 0].unbind(-1)
    reach = min(len(taps), x.shape[1]) - 1
    out = x * taps[-1]
    for offset in range(1, reach + 1):
        tap = taps[-1 - offset]
        past = F.pad(x[:, :-offset], (0, 0, 0, 0, offset, 0))
        future = F.pad(x[:, offset:], (0, 0, 0, 0, 0, offset))
        out = out + (past + future) * tap
    return out


def _filtered_by_library(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """As :func:`symmetric_short_conv`: one pass of the library's depthwise convolution, on a CPU a tenth of the time.

    `padding` frames of zeros are seen before and after x; without any, the K - 1 frames at either end of x have no
    result. Elsewhere the library may multiply float32 in fewer bits, and kernels do this work anyway.
    """
    dtype = torch.promote_types(x.dtype, weight.dtype)
    taps = torch.cat([weight, weight[..., :-1].flip(-1)], -1)[..., None].to(dtype)  # (C, 1, 2K - 1, 1)
    # Channels stay last in memory, as the library likes them; the permutations are only views.
    images = x.to(dtype).permute(0, 3, 1, 2)
    with torch.autocast(x.device.type, enabled=False):  # it would round what is normed in float32 next
        images = F.conv2d(images, taps, padding=(padding, 0), groups=x.shape[-1])
    return images.permute(0, 2, 3, 1)


def chunked_short_conv(x: Tensor, weight: Tensor, chunk: Tensor | None, tail: Tensor) -> Tensor:
    """The same filter where frames see no later chunk: the mirrored half stops at the end of its chunk (spec 20, 2.1).

    Args:
        x: (B, T, S, C).
        weight: (C, 1, K); the last tap meets the current frame.
        chunk: (T,) which chunk a frame lies in, None for a single one.
        tail: (B, K - 1, S, C), the frames before; zeros before the first frame of a video.
    """
    taps = weight[:, 0].unbind(-1)
    frames, reach = x.shape[1], len(taps) - 1
    if chunk is None and x.device.type == "cpu":
        after = x.new_zeros(()).expand_as(tail)
        return _filtered_by_library(torch.cat([tail.to(x.dtype), x, after], 1), weight, padding=0)
    seen = torch.cat([tail.to(x.dtype), x], 1)
    out = x * taps[-1]
    for offset in range(1, reach + 1):
        out = out + seen[:, reach - offset : reach - offset + frames] * taps[-1 - offset]
        if offset < frames:
            out = out + _later(x, offset, chunk) * taps[-1 - offset]
    return out


def _later(x: Tensor, offset: int, chunk: Tensor | None) -> Tensor:
    """Frame t + offset of x (B,T,S,C) at frame t; zeros where there is none in its chunk."""
    later = x[:, offset:]
    if chunk is not None:
        inside = chunk[offset:] == chunk[:-offset]
        later = torch.where(inside[:, None, None], later, torch.zeros((), dtype=x.dtype, device=x.device))
    return F.pad(later, (0, 0, 0, 0, 0, offset))


def last_frames(x: Tensor, tail: Tensor) -> Tensor:
    """The tail after frames x (B,T,S,C): as many of the last frames of what was before and x as `tail` has."""
    count = tail.shape[1]
    return torch.cat([tail.to(x.dtype), x[:, -count:]], 1)[:, -count:].contiguous()


def chunked_temporal_residual(x: Tensor, weight: Tensor, chunk: Tensor | None, tail: Tensor) -> Tensor:
    """x + the dense three-frame convolution, whose last tap stops at the end of a chunk (spec 20, section 2.4).

    Args:
        x: (B, T, S, C).
        weight: (C, C, 3, 1), taps for the frame before, the frame itself and the frame after.
        chunk: as of :func:`chunked_short_conv`.
        tail: (B, 1, S, C), the frame before; zeros before the first frame of a video.
    """
    before = torch.cat([tail.to(x.dtype), x[:, :-1]], 1)
    return x + F.linear(torch.cat([before, x, _later(x, 1, chunk)], dim=-1), _three_taps(weight))


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
    seen = F.pad(x, (0, 0, 0, 0, 1, 1))
    taps = _three_taps(weight)
    return by_frames(lambda *frames: F.linear(torch.cat(frames, dim=-1), taps), seen[:, :-2], x, seen[:, 2:])


def _three_taps(weight: Tensor) -> Tensor:
    """(C_out, 3*C): one product instead of three."""
    return weight[..., 0].permute(0, 2, 1).flatten(1)
