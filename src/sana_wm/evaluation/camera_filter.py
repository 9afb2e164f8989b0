"""Is the camera of a clip believable? The filters on lens and scale of every source (spec 60-annotation.md 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.intrinsics import MAX_FOV_DEG, MIN_FOV_DEG, fov_degrees

MOST_DIVERGENCE, MOST_SCALE_CV = 0.20, 2.0
EPS = 1e-8


@dataclass(frozen=True)
class CameraCheck:
    """Scores of one clip, and whether all are within their limits (inclusive).

    Attributes:
        fov_deg: horizontal and vertical field of view, each in [25, 120].
        focal_divergence: |fx - fy| over their mean, at most 0.20.
        scale_cv: population standard deviation over mean of the scale series, at most 2.
    """

    fov_deg: tuple[float, float]
    focal_divergence: float
    scale_cv: float
    passed: bool


def check_camera(intrinsics: Tensor, scales: Tensor, wh: tuple[int, int]) -> CameraCheck:
    """Filter a clip by intrinsics (4,) or (N,4) in pixels of a W x H image and scales (N,).

    With intrinsics per frame, the median over frames decides. An empty scale series fails the clip (scale_cv is NaN),
    as does any number that is not finite. Raises :class:`InputError` for other shapes.
    """
    if intrinsics.ndim not in (1, 2) or intrinsics.shape[-1] != 4 or intrinsics.numel() == 0:
        raise InputError(f"intrinsics has the shape {tuple(intrinsics.shape)}; it must be (4,) or (frames, 4).")
    if scales.ndim != 1:
        raise InputError(f"the scales have the shape {tuple(scales.shape)}; they must be (frames,).")
    # quantile, not median, which takes the lower of the two middle values
    lens = intrinsics.double().reshape(-1, 4).quantile(0.5, dim=0)
    fov_x, fov_y = fov_degrees(lens, wh).tolist()
    fx, fy = lens[:2].tolist()
    divergence = abs(fx - fy) / ((fx + fy) / 2) if fx + fy != 0 else float("nan")
    series = scales.double()
    cv = float(series.std(unbiased=False) / (series.mean() + EPS)) if len(series) else float("nan")
    # written so that NaN fails
    passed = (
        min(fx, fy) > 0
        and all(MIN_FOV_DEG <= fov <= MAX_FOV_DEG for fov in (fov_x, fov_y))
        and divergence <= MOST_DIVERGENCE
        and cv <= MOST_SCALE_CV
        and bool(torch.isfinite(series).all())
    )
    return CameraCheck((fov_x, fov_y), divergence, cv, passed)
