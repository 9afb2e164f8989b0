"""Metric scale for depth without one: per-frame scales, their smoothing, fused depth (spec 60-annotation.md 3.1)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sana_wm.errors import InputError

LEAST_DEPTH = 1e-8
MOMENTUM = 0.99

Weighting = Literal["moge", "structure"]


def depth_scales(structure: Tensor, metric: Tensor, weighting: Weighting = "moge") -> Tensor:
    """(T,) float64 scale of each frame that brings `structure` (T,h,w) closest to `metric` (T,h,w).

    Least squares over pixels where both depths are finite and above 1e-8, weighted with one over the metric depth
    ("moge", which isolated too-small metric depths bias low) or over the structure depth ("structure"). NaN for a frame
    without such a pixel. Raises :class:`InputError` for shapes that differ or another weighting.
    """
    if weighting not in ("moge", "structure"):
        raise InputError(f"weighting is {weighting!r}; it must be 'moge' or 'structure'.")
    if structure.shape != metric.shape or structure.ndim != 3:
        raise InputError(
            f"structure has the shape {tuple(structure.shape)} and metric {tuple(metric.shape)}; both must be one "
            "(frames, h, w)."
        )
    a, b = structure.double(), metric.double()
    valid = torch.isfinite(a) & torch.isfinite(b) & (a > LEAST_DEPTH) & (b > LEAST_DEPTH)
    a, b = torch.where(valid, a, 1.0), torch.where(valid, b, 1.0)
    over, under = (a, a * a / b) if weighting == "moge" else (b, a)
    over, under = ((x * valid).sum(dim=(1, 2)) for x in (over, under))
    return torch.where(valid.flatten(1).any(dim=1), over / under, torch.nan)


def smooth_scales(raw: Tensor, momentum: float = MOMENTUM, *, median_first: int = 1) -> Tensor:
    """(T,) float64 running mean e_t = momentum e_t-1 + (1 - momentum) s_t of raw scales (T,), NaN carrying e forward.

    Frames before the first scale take its value. median_first: start from the median of that many first scales instead
    of the very first, which otherwise decides about the next hundred frames.
    Raises :class:`InputError` if no frame has a scale, or for a momentum outside [0, 1].
    """
    if raw.ndim != 1:
        raise InputError(f"the scales have the shape {tuple(raw.shape)}; they must be (frames,).")
    if not 0.0 <= momentum <= 1.0:
        raise InputError(f"momentum is {momentum}; it must lie between 0 and 1.")
    if median_first < 1:
        raise InputError(f"median_first is {median_first}; it must be at least 1.")
    scales = raw.double()
    known = scales[~scales.isnan()]
    if len(known) == 0:
        raise InputError(f"none of the {len(raw)} frames has a valid depth pixel; this clip has no metric scale.")
    smoothed = float(known[:median_first].quantile(0.5))
    first = int((~scales.isnan()).nonzero()[0, 0])
    values = [smoothed] * (first + 1)
    for scale in scales[first + 1 :].tolist():
        if not math.isnan(scale):
            smoothed = momentum * smoothed + (1.0 - momentum) * scale
        values.append(smoothed)
    return torch.tensor(values, dtype=torch.float64, device=raw.device)


def fuse_depth(structure: Tensor, scales: Tensor) -> Tensor:
    """Metric depth (T,h,w) float64: structure (T,h,w) times the scales (T,); its NaN and 0 pixels stay."""
    if structure.ndim != 3 or scales.shape != structure.shape[:1]:
        raise InputError(
            f"structure has the shape {tuple(structure.shape)} and scales {tuple(scales.shape)}; they must be "
            "(frames, h, w) and (frames,)."
        )
    return scales.double()[:, None, None] * structure.double()
