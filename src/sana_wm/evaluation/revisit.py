"""Does a place look the same when the camera comes back? Revisit pairs: finding and scoring (spec 61-benchmark.md).

A pair is two frames of a path, counted at the path's rate, whose camera centres are close and which look the same way
(sections 1 and 1.2); section 5.1 scores how alike the two frames of the video are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.image import frame_psnr, ssim
from sana_wm.geometry.poses import check_poses

REFERENCE_FPS = 16.0
MAX_DISTANCE_M, MAX_ANGLE_DEG = 0.5, 20.0
LEAST_GAP_SECONDS, SPACING_SECONDS = 5.0, 1.0
MOST_STORED, MOST_SCORED = 20, 5
QUALITY_OF_UNRATED = 999.0
"""What the release takes for a pair without `quality_score`: it comes last."""
SAME_RATE = 0.1


@dataclass(frozen=True)
class RevisitPair:
    """Two frames of a path (0-based, at the path's rate) that see the same; a lower quality_score is a better match."""

    frame_a: int
    frame_b: int
    distance_m: float
    angle_diff_deg: float
    quality_score: float | None = None

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], name: str = "the revisit pair") -> RevisitPair:
        """A pair of `evaluation_pairs` in the benchmark's scene file (spec 61 section 1.1); `name` is for messages."""
        missing = [key for key in ("frame_a", "frame_b") if not isinstance(entry.get(key), int)]
        if missing:
            raise InputError(f"{name} has {missing[0]} = {entry.get(missing[0])!r}; it must be a whole number.")
        quality = entry.get("quality_score")
        return cls(
            frame_a=entry["frame_a"],
            frame_b=entry["frame_b"],
            distance_m=float(entry.get("distance_m", float("nan"))),
            angle_diff_deg=float(entry.get("angle_diff_deg", float("nan"))),
            quality_score=None if quality is None else float(quality),
        )


@dataclass(frozen=True)
class PairScore:
    """How alike the two frames of a pair are: PSNR in dB, the release's SSIM, LPIPS if a measure was given."""

    pair: RevisitPair
    psnr: float
    ssim: float
    lpips: float | None = None


def revisit_geometry(c2w: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of the camera centres and angles of the orientations in degrees, both (F,F) float64, of poses (F,4,4).

    The trace of R_a^T R_b is the sum of products of entries, so no F x F matrices of rotations are made.
    """
    check_poses(c2w)
    rotation, centre = c2w[:, :3, :3].double().flatten(1), c2w[:, :3, 3].double()
    # differences, not the expansion of the square, which loses the digits of near centres far from the origin
    distance = torch.stack([(centre - one).norm(dim=1) for one in centre])
    cosine = ((rotation @ rotation.mT - 1.0) / 2.0).clamp(-1.0, 1.0)
    return distance, torch.rad2deg(torch.arccos(cosine))


def revisit_mask(
    distance: Tensor, angle_deg: Tensor, max_distance: float = MAX_DISTANCE_M, max_angle_deg: float = MAX_ANGLE_DEG
) -> Tensor:
    """(F,F) bool: which frames see the same, both limits exclusive (spec 61 section 1)."""
    return (distance < max_distance) & (angle_deg < max_angle_deg)


def find_pairs(
    c2w: Tensor,
    fps: float = REFERENCE_FPS,
    *,
    max_distance: float = MAX_DISTANCE_M,
    max_angle_deg: float = MAX_ANGLE_DEG,
    most: int = MOST_STORED,
) -> list[RevisitPair]:
    """The best pairs a < b of a path (F,4,4), best first, by our rules (spec 61 section 1.2).

    Frames are at least 5 s apart and frame 0 is left out (a refiner copies it). Quality is distance / max_distance +
    angle / max_angle. Chosen greedily: a pair less than 1 s from a chosen one in both of its frames is passed over.
    Raises :class:`InputError` for poses that are not rigid or limits that are not above 0.
    """
    for name, value in (("fps", fps), ("max_distance", max_distance), ("max_angle_deg", max_angle_deg)):
        if not value > 0:
            raise InputError(f"{name} is {value}; it must be above 0.")
    distance, angle = revisit_geometry(c2w)
    frame = torch.arange(len(c2w), device=c2w.device)
    far_apart = frame[None, :] - frame[:, None] >= LEAST_GAP_SECONDS * fps
    candidates = revisit_mask(distance, angle, max_distance, max_angle_deg) & far_apart & (frame[:, None] > 0)
    a, b = candidates.nonzero(as_tuple=True)
    quality = distance[a, b] / max_distance + angle[a, b] / max_angle_deg
    order = torch.argsort(quality, stable=True)
    a, b, quality = a[order], b[order], quality[order]
    free = torch.ones(len(a), dtype=torch.bool, device=a.device)
    chosen: list[RevisitPair] = []
    while len(chosen) < most and free.any():
        at = int(free.nonzero()[0, 0])
        i, j = int(a[at]), int(b[at])
        chosen.append(RevisitPair(i, j, float(distance[i, j]), float(angle[i, j]), float(quality[at])))
        spacing = SPACING_SECONDS * fps
        free &= ~(((a - i).abs() < spacing) & ((b - j).abs() < spacing))
    return chosen


def best_pairs(pairs: Sequence[RevisitPair], most: int = MOST_SCORED) -> list[RevisitPair]:
    """The pairs to score: the `most` with the lowest quality_score, unrated ones last (spec 61 section 5.1)."""
    rated = sorted(pairs, key=lambda p: QUALITY_OF_UNRATED if p.quality_score is None else p.quality_score)
    return rated[:most]


def video_frame(frame: int, fps: float, num_frames: int, reference_fps: float = REFERENCE_FPS) -> int:
    """The frame of a video with `num_frames` at `fps` that shows `frame` of a path at 16 fps (spec 61 section 5.1)."""
    if frame < 0 or num_frames < 1 or fps <= 0:
        raise InputError(
            f"frame {frame} of a video of {num_frames} frames at {fps:g} fps; the frame must be at least 0, the video "
            "at least 1 frame long and its rate above 0."
        )
    # round() takes halves to the even neighbour, like the release
    wanted = frame if abs(reference_fps - fps) < SAME_RATE else round(frame / reference_fps * fps)
    return min(wanted, num_frames - 1)


def score_pairs(
    video: Tensor,
    pairs: Sequence[RevisitPair],
    fps: float = REFERENCE_FPS,
    *,
    most: int = MOST_SCORED,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> list[PairScore]:
    """Scores of the best pairs of one scene (spec 61 section 5.1).

    video: (F,3,H,W) uint8 at `fps`. lpips: a measure of two videos, such as
    :class:`sana_wm.evaluation.perceptual.Lpips`. A pair whose frames fall together in a short video is passed over, so
    there may be fewer scores than pairs.
    """
    if video.ndim != 4 or video.shape[1] != 3 or video.dtype != torch.uint8 or len(video) == 0:
        raise InputError(f"the video is {video.dtype} of shape {tuple(video.shape)}; it must be uint8 (F, 3, H, W).")
    scores = []
    for pair in best_pairs(pairs, most):
        i, j = (video_frame(frame, fps, len(video)) for frame in (pair.frame_a, pair.frame_b))
        if i == j:
            continue
        a, b = video[i : i + 1], video[j : j + 1]
        distance = None if lpips is None else float(lpips(a, b))
        scores.append(PairScore(pair, float(frame_psnr(a, b)), float(ssim(a, b)), distance))
    return scores


@dataclass(frozen=True)
class RevisitSummary:
    """Means over every pair of every scene, how many pairs that are, and the scenes that have none."""

    psnr: float
    ssim: float
    lpips: float | None
    pairs: int
    scenes_without_pairs: tuple[str, ...]


def summarise(scenes: Mapping[str, Sequence[PairScore]]) -> RevisitSummary:
    """Mean over all pairs, so a scene with fewer weighs less, as published (spec 61 section 5.1).

    LPIPS is None where no pair has it. Raises :class:`InputError` if there is no pair at all, or if only some pairs
    have LPIPS, whose mean would be over another set than the PSNR beside it.
    """
    scores = [score for scene in scenes.values() for score in scene]
    if not scores:
        raise InputError(f"the {len(scenes)} scenes hold 0 scored revisit pairs; at least 1 is needed for a mean.")
    distances = [score.lpips for score in scores if score.lpips is not None]
    if distances and len(distances) != len(scores):
        raise InputError(
            f"{len(distances)} of {len(scores)} revisit pairs have LPIPS; either all or none must have it."
        )
    return RevisitSummary(
        psnr=fmean(score.psnr for score in scores),
        ssim=fmean(score.ssim for score in scores),
        lpips=fmean(distances) if distances else None,
        pairs=len(scores),
        scenes_without_pairs=tuple(name for name, scene in scenes.items() if not scene),
    )
