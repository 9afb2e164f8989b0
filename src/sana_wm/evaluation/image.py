"""Frame-by-frame image measures: PSNR (spec 61-benchmark.md, revisit metrics) and gradient sharpness."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sana_wm.errors import InputError

Frames = Tensor | np.ndarray
"""Frames along the first axis: uint8 in 0..255, or floating point in [-1, 1] as a codec decodes them."""

PSNR_OF_EQUAL = 100.0
EQUAL_BELOW = 1e-10 / 255.0**2  # mean squared error relative to data_range^2
LUMA = (0.299, 0.587, 0.114)


def psnr(a: Frames, b: Frames, data_range: float) -> Tensor:
    """(F,) float64 peak signal-to-noise ratios in dB, one a frame, over all entries of the frame; 100 for equal frames.

    a, b: (F, ...) of one shape in any layout. data_range: white minus black in the units of the frames.
    """
    if tuple(a.shape) != tuple(b.shape) or a.ndim < 2:
        raise InputError(f"the frames have the shapes {tuple(a.shape)} and {tuple(b.shape)}; both must be one (F, ...)")
    if data_range <= 0:
        raise InputError(f"data_range is {data_range}; it must be above 0")
    errors = [(x - y).square().mean() for x, y in zip(_doubles(a), _doubles(b), strict=True)]
    relative = torch.stack(errors) / data_range**2
    return torch.where(relative < EQUAL_BELOW, PSNR_OF_EQUAL, -10.0 * torch.log10(relative))


def frame_psnr(video_a: Frames, video_b: Frames) -> Tensor:
    """(F,) PSNR in dB of two videos of the same shape and number format (see `Frames`)."""
    if _black_white(video_a) != _black_white(video_b):
        raise InputError(f"the videos hold {video_a.dtype} and {video_b.dtype}; both must be uint8, or both float")
    black, white = _black_white(video_a)
    return psnr(video_a, video_b, white - black)


def sharpness(frames: Frames) -> Tensor:
    """(F,) float64 mean gradient magnitude of the luma, black to white being 1: a blurred frame has a lower value.

    frames: (F,3,H,W), H and W at least 2. Gradients are differences between neighbouring pixels.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or min(frames.shape[2:]) < 2:
        raise InputError(f"frames has the shape {tuple(frames.shape)}; it must be (F, 3, H, W), H and W at least 2")
    black, white = _black_white(frames)
    weights = torch.tensor(LUMA, dtype=torch.float64).view(3, 1, 1) / (white - black)
    values = []
    for frame in _doubles(frames):
        luma = (weights.to(frame.device) * frame).sum(dim=0)
        across = luma[:-1, 1:] - luma[:-1, :-1]
        down = luma[1:, :-1] - luma[:-1, :-1]
        values.append(torch.hypot(across, down).mean())
    return torch.stack(values)


def _doubles(frames: Frames) -> Iterator[Tensor]:
    """One float64 frame at a time: a minute of 720p in float64 at once would be 20 GB."""
    for frame in frames:
        yield torch.as_tensor(frame).double()


def _black_white(frames: Frames) -> tuple[float, float]:
    dtype = torch.as_tensor(frames[:1]).dtype
    if dtype == torch.uint8:
        return 0.0, 255.0
    if dtype.is_floating_point:
        return -1.0, 1.0
    raise InputError(f"the frames hold {dtype}; they must be uint8 in 0..255 or floating point in [-1, 1]")
