"""From VBench's raw numbers to one Overall, as the benchmark's table does it (spec 61-benchmark.md section 4.1).

Raw numbers are shares of 1, as VBench writes them. A dimension that is missing is an error: the release averages
whatever is there, so that a failed download raises the mark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from sana_wm.errors import InputError

QUALITY_DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "temporal_flickering",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
)
SEMANTIC_DIMENSIONS = ("overall_consistency", "temporal_style")
DIMENSIONS = QUALITY_DIMENSIONS + SEMANTIC_DIMENSIONS

WEIGHTS = {name: 0.5 if name == "dynamic_degree" else 1.0 for name in QUALITY_DIMENSIONS}
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4.0, 1.0

Constants = Literal["release", "vbench"]

_QUALITY_RANGES = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.7060, 0.9975),
    "dynamic_degree": (0.0, 1.0),
    "aesthetic_quality": (0.0, 1.0),
    "imaging_quality": (0.0, 1.0),
}
RANGES: dict[Constants, dict[str, tuple[float, float]]] = {
    "release": {**_QUALITY_RANGES, "overall_consistency": (0.0, 1.0), "temporal_style": (0.0, 1.0)},
    "vbench": {**_QUALITY_RANGES, "overall_consistency": (0.0, 0.364), "temporal_style": (0.0, 0.364)},
}
"""Least and largest raw value of each dimension. The release clips what lies outside, VBench does not."""


def normalise(
    raw: Mapping[str, float], constants: Constants = "release", dimensions: Sequence[str] = DIMENSIONS
) -> dict[str, float]:
    """(raw - min) / (max - min) of each of `dimensions`; with the release's constants clipped to [0, 1].

    Raises :class:`InputError` for a dimension that is missing, not finite, or written in percent.
    """
    if constants not in RANGES:
        raise InputError(f"constants is {constants!r}; it must be 'release' or 'vbench'.")
    missing = [name for name in dimensions if name not in raw]
    if missing:
        raise InputError(
            f"the VBench results lack {', '.join(missing)}; all of {', '.join(dimensions)} are needed, and a mean over "
            "fewer would not be comparable."
        )
    normalised = {}
    for name in dimensions:
        value = raw[name]
        if not math.isfinite(value) or abs(value) > 1.5:
            raise InputError(f"{name} is {value}; it must be a finite share of 1, not percent.")
        low, high = RANGES[constants][name]
        share = (value - low) / (high - low)
        normalised[name] = min(max(share, 0.0), 1.0) if constants == "release" else share
    return normalised


def quality_score(raw: Mapping[str, float], constants: Constants = "release") -> float:
    """Weighted mean of the seven quality dimensions, dynamic degree counting half."""
    shares = normalise(raw, constants, QUALITY_DIMENSIONS)
    return sum(WEIGHTS[name] * share for name, share in shares.items()) / sum(WEIGHTS.values())


def overall(raw: Mapping[str, float]) -> float:
    """The column "Overall" of the benchmark's table, 0 to 100: 100 times the quality score, release constants."""
    return 100.0 * quality_score(raw)


def semantic_score(raw: Mapping[str, float], constants: Constants = "release") -> float:
    """Mean of the two semantic dimensions that custom videos allow. Diagnostic: VBench's own has nine."""
    shares = normalise(raw, constants, SEMANTIC_DIMENSIONS)
    return sum(shares.values()) / len(shares)


def total_score(raw: Mapping[str, float], constants: Constants = "release") -> float:
    """(4 quality + semantic) / 5. Diagnostic, not comparable with VBench's leaderboard (9 of its 16 dimensions)."""
    weighted = QUALITY_WEIGHT * quality_score(raw, constants) + SEMANTIC_WEIGHT * semantic_score(raw, constants)
    return weighted / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)


def temporal_flickering(video: Tensor) -> float:
    """VBench's temporal flickering of one video (F,3,H,W) uint8: 1 minus the mean change per frame over 255.

    Needs no weights (spec 61 section 4.2). On moving video it measures motion too; a still video scores 1.
    Raises :class:`InputError` for another type or shape, or fewer than two frames.
    """
    if video.dtype != torch.uint8 or video.ndim != 4 or len(video) < 2:
        raise InputError(
            f"the video is {video.dtype} of shape {tuple(video.shape)}; it must be uint8 (F, 3, H, W), F at least 2."
        )
    changes = [(video[i].double() - video[i - 1].double()).abs().mean() for i in range(1, len(video))]
    return 1.0 - float(torch.stack(changes).mean()) / 255.0
