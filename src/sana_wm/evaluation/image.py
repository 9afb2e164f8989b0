"""Frame-by-frame image measures: PSNR and SSIM (spec 61-benchmark.md section 5.1) and gradient sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.errors import InputError

Frames = Tensor | np.ndarray
"""Frames along the first axis: uint8 in 0..255, or floating point in [-1, 1] as a codec decodes them."""

PSNR_OF_EQUAL = 100.0
EQUAL_BELOW = 1e-10 / 255.0**2  # mean squared error relative to data_range^2
LUMA = (0.299, 0.587, 0.114)
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03

SsimWindow = Literal["release", "gaussian"]


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


def ssim(video_a: Frames, video_b: Frames, window: SsimWindow = "release") -> Tensor:
    """(F,) float64 structural similarity of two videos (F,3,H,W), mean over pixels and channels; 1 for equal frames.

    window: "release" is the benchmark's, uniform 11x11 with borders mirrored (edge pixel included) and the map as large
    as the image (spec 61 section 5.1); "gaussian" is the standard one of most libraries, sigma 1.5 over 11x11, only
    where the window lies inside the image, so H and W must be at least 11. They are not comparable.
    """
    if window not in ("release", "gaussian"):
        raise InputError(f"window is {window!r}; it must be 'release' or 'gaussian'")
    if tuple(video_a.shape) != tuple(video_b.shape) or video_a.ndim != 4 or 0 in video_a.shape:
        raise InputError(
            f"the videos have the shapes {tuple(video_a.shape)} and {tuple(video_b.shape)}; both must be one "
            "(F, 3, H, W)"
        )
    if window == "gaussian" and min(video_a.shape[2:]) < SSIM_WINDOW:
        raise InputError(
            f"the frames are {video_a.shape[3]}x{video_a.shape[2]}; SSIM with a Gaussian window needs at least "
            f"{SSIM_WINDOW}x{SSIM_WINDOW} pixels"
        )
    if _black_white(video_a) != _black_white(video_b):
        raise InputError(f"the videos hold {video_a.dtype} and {video_b.dtype}; both must be uint8, or both float")
    black, white = _black_white(video_a)
    average = _uniform_average if window == "release" else _gaussian_average
    pairs = zip(_doubles(video_a), _doubles(video_b), strict=True)
    return torch.stack([_ssim_map(a - black, b - black, white - black, average).mean() for a, b in pairs])


def _ssim_map(a: Tensor, b: Tensor, data_range: float, average: Callable[[Tensor], Tensor]) -> Tensor:
    """SSIM of every window of frames (C,H,W) counted from black; variances are biased, E[x^2] - E[x]^2."""
    C1, C2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    mean_a, mean_b = average(a), average(b)
    variances = average(a * a) - mean_a**2 + average(b * b) - mean_b**2
    covariance = average(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return luminance * (2 * covariance + C2) / (variances + C2)


def _uniform_average(image: Tensor) -> Tensor:
    """Means over windows, by differences of running sums: faster than pooling, and as exact in float64."""
    half = SSIM_WINDOW // 2
    for dim in (1, 2):
        size = image.shape[dim]
        at = torch.arange(-half, size + half, device=image.device) % (2 * size)  # mirrored again in a tiny image
        sums = image.index_select(dim, torch.minimum(at, 2 * size - 1 - at)).cumsum(dim)
        below = torch.cat([torch.zeros_like(sums.narrow(dim, 0, 1)), sums.narrow(dim, 0, size - 1)], dim)
        image = (sums.narrow(dim, SSIM_WINDOW - 1, size) - below) / SSIM_WINDOW
    return image


def _gaussian_average(image: Tensor) -> Tensor:
    half = SSIM_WINDOW // 2
    weights = [math.exp(-0.5 * (k / SSIM_SIGMA) ** 2) for k in range(-half, half + 1)]
    kernel = torch.tensor(weights, dtype=image.dtype, device=image.device) / sum(weights)
    rows = F.conv2d(image[:, None], kernel.view(1, 1, -1, 1))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


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
