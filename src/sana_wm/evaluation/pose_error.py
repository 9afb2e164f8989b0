"""How far a recovered camera path is from the path that was asked for (spec 61-benchmark.md section 3).

RotErr in degrees; TransErr and CamMC in the unit of the asked path (metres in the benchmark), not divided by its
length. Everything in float64: the arc cosine loses half the digits near zero error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.umeyama import LEAST_SPREAD, Similarity, straightness, umeyama
from sana_wm.geometry.poses import check_poses, compose, inverse_rigid, relative_to_first

Align = Literal["release", "umeyama"]

LEAST_VARIANCE = 1e-9
"""The release divides by no less than this when it computes the scale, so a static estimate does not divide by 0."""
LEAST_REGISTERED = 0.5
"""A scene with poses for a smaller share of its frames has failed (spec 61 section 3.4)."""


@dataclass(frozen=True)
class PoseErrors:
    """Errors of one path, frame by frame and in the mean.

    Attributes:
        rotation_deg, translation, motion: (n,) float64 curves over the compared frames; NaN where there is no pose.
            Their means are RotErr, TransErr and CamMC.
        truth: (n,4,4) float64 asked poses, relative to the first compared frame that has a pose.
        aligned: (n,4,4) float64 recovered poses brought onto them; NaN where there is no pose.
        alignment: what brought the recovered poses, relative to their own first, onto the truth.
        registered: share of the frames that should have a pose and do; frames the video lacks count as missing.
    """

    rotation_deg: Tensor
    translation: Tensor
    motion: Tensor
    truth: Tensor
    aligned: Tensor
    alignment: Similarity
    registered: float

    @property
    def rot_err(self) -> float:
        """RotErr: mean rotation error in degrees."""
        return float(self.rotation_deg.nanmean())

    @property
    def trans_err(self) -> float:
        """TransErr: mean distance of the camera centres, in units of the asked path."""
        return float(self.translation.nanmean())

    @property
    def cam_mc(self) -> float:
        """CamMC: mean Frobenius distance of the 3x4 matrices."""
        return float(self.motion.nanmean())

    @property
    def path_length_ratio(self) -> float | None:
        """Length of the recovered path, after alignment, over that of the asked one; None if that does not move."""
        seen = ~self.rotation_deg.isnan()
        made, asked = (c2w[seen][:, :3, 3].diff(dim=0).norm(dim=1).sum() for c2w in (self.aligned, self.truth))
        return float(made / asked) if asked > 0 else None


def pose_errors(
    gt_c2w: Tensor,
    est_c2w: Tensor,
    *,
    align: Align = "release",
    interval: int = 1,
    skip_first_frame: bool = False,
    valid: Tensor | None = None,
) -> PoseErrors:
    """Compare recovered poses with the asked ones (spec 61 sections 3.1 to 3.3).

    gt_c2w: (F,4,4), one asked pose a frame of the video. est_c2w: (n,4,4), recovered from frames 0, interval,
    2 interval ... of it; where one of the two is longer, its end is not compared. valid: (n,) bool, False where the
    estimator found no pose (such entries of est_c2w may hold anything). skip_first_frame: leave out the first of these
    frames, which a refiner copies from the input image. Both paths are relative to their first compared pose.

    align: "release" turns by the orientations, so it is defined for straight and static paths, and is comparable with
    published numbers; "umeyama" turns by the centres and is refused where they lie on one line.
    Raises :class:`InputError` for poses that are not rigid, nothing left to compare, or an undetermined alignment.
    """
    if interval < 1:
        raise InputError(f"interval is {interval}; it must be at least 1.")
    if align not in ("release", "umeyama"):
        raise InputError(f"align is {align!r}; it must be 'release' or 'umeyama'.")
    check_poses(gt_c2w, "gt_c2w")
    truth = gt_c2w[::interval].double()
    wanted = len(truth) - skip_first_frame
    estimate, seen = _estimate(est_c2w, valid)
    count = min(len(truth), len(estimate))
    start = int(skip_first_frame)
    truth, estimate, seen = truth[start:count], estimate[start:count], seen[start:count]
    if not seen.any():
        raise InputError(
            f"none of the {len(seen)} compared frames has a recovered pose; at least one is needed "
            "(count this scene as failed)."
        )
    first = int(seen.nonzero()[0, 0])
    truth = compose(inverse_rigid(truth[first]), truth)
    aligned = torch.full_like(truth, math.nan)
    relative = relative_to_first(estimate[seen])
    alignment = (_align_orientations if align == "release" else _align_centres)(truth[seen], relative)
    aligned[seen] = alignment.apply_to_poses(relative)
    rotation, translation, motion = _differences(truth, aligned)
    registered = float(seen.sum()) / wanted
    return PoseErrors(rotation, translation, motion, truth, aligned, alignment, registered)


@dataclass(frozen=True)
class RelativeErrors:
    """Errors of the motion over a gap of frames: rotation_deg and translation (n - gap,) float64, NaN where unknown."""

    rotation_deg: Tensor
    translation: Tensor

    @property
    def mean_rotation_deg(self) -> float:
        return float(self.rotation_deg.nanmean())

    @property
    def mean_translation(self) -> float:
        return float(self.translation.nanmean())


def relative_pose_errors(errors: PoseErrors, gap: int) -> RelativeErrors:
    """Error of the motion from each compared frame to the one `gap` later (spec 61 section 3.3).

    Unlike the plain errors it does not grow with an early mistake. With poses of every fourth frame, 16 frames of video
    are a gap of 4. Raises :class:`InputError` for a gap below 1 or not shorter than the path.
    """
    if not 1 <= gap < len(errors.truth):
        raise InputError(
            f"gap is {gap} for a path of {len(errors.truth)} poses; it must lie between 1 and that less 1."
        )
    asked, made = (compose(inverse_rigid(c2w[:-gap]), c2w[gap:]) for c2w in (errors.truth, errors.aligned))
    difference = compose(inverse_rigid(asked), made)
    return RelativeErrors(rotation_angles_deg(difference[:, :3, :3]), difference[:, :3, 3].norm(dim=1))


def rotation_angles_deg(rotation: Tensor) -> Tensor:
    """Angles in degrees (...) of rotations (...,3,3): the clipped arc cosine of the trace, as published."""
    trace = rotation.double().diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(torch.arccos(((trace - 1.0) / 2.0).clamp(-1.0, 1.0)))


def path_length(c2w: Tensor) -> float:
    """Length of the way that the camera of poses (F,4,4) goes."""
    return float(c2w[:, :3, 3].diff(dim=0).norm(dim=1).sum())


@dataclass(frozen=True)
class PoseSummary:
    """Means over the scenes that could be measured, and the names of those that could not."""

    rot_err: float
    trans_err: float
    cam_mc: float
    measured: tuple[str, ...]
    failed: tuple[str, ...]


def summarise(scenes: Mapping[str, PoseErrors | None], least_registered: float = LEAST_REGISTERED) -> PoseSummary:
    """Mean errors over scenes; one that is None, or of which too few frames have a pose, is named as failed.

    Means are NaN if every scene failed. Raises :class:`InputError` without any scene.
    """
    if not scenes:
        raise InputError("there are 0 scenes to summarise; at least 1 is needed.")
    measured = {name: e for name, e in scenes.items() if e is not None and e.registered >= least_registered}
    failed = tuple(name for name in scenes if name not in measured)
    return PoseSummary(
        rot_err=_mean([e.rot_err for e in measured.values()]),
        trans_err=_mean([e.trans_err for e in measured.values()]),
        cam_mc=_mean([e.cam_mc for e in measured.values()]),
        measured=tuple(measured),
        failed=failed,
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _estimate(est_c2w: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    if est_c2w.ndim != 3 or est_c2w.shape[1:] != (4, 4) or len(est_c2w) == 0:
        raise InputError(
            f"est_c2w has shape {tuple(est_c2w.shape)}; it must be (frames, 4, 4) with at least one frame."
        )
    if valid is None:
        check_poses(est_c2w, "est_c2w")
        return est_c2w.double(), torch.ones(len(est_c2w), dtype=torch.bool, device=est_c2w.device)
    if valid.shape != (len(est_c2w),) or valid.dtype != torch.bool:
        raise InputError(
            f"valid has shape {tuple(valid.shape)} and type {valid.dtype}; it must be ({len(est_c2w)},) and bool."
        )
    blank = torch.eye(4, dtype=est_c2w.dtype, device=est_c2w.device)
    check_poses(torch.where(valid[:, None, None], est_c2w, blank), "est_c2w")
    return est_c2w.double(), valid


def _align_orientations(truth: Tensor, estimate: Tensor) -> Similarity:
    """The release's alignment: rotation from the orientations, then scale and offset from the centres."""
    R, C, S, D = truth[:, :3, :3], truth[:, :3, 3], estimate[:, :3, :3], estimate[:, :3, 3]
    U, _, Vh = torch.linalg.svd((R @ S.mT).mean(dim=0))
    rotation = U @ Vh
    if torch.linalg.det(rotation) < 0:
        raise InputError(
            "the recovered orientations fit a mirror image of the asked ones best (determinant -1); they must be "
            "rotations in OpenCV axes that follow the path at least roughly."
        )
    turned = (S @ R.mT @ C[..., None])[..., 0]  # each asked centre in the frame of the estimate, by its own frame
    centre, target = D.mean(dim=0), turned.mean(dim=0)
    scale = ((D - centre) * (turned - target)).mean() / (D - centre).square().mean().clamp_min(LEAST_VARIANCE)
    return Similarity(float(scale), rotation, rotation @ (target - scale * centre))


def _align_centres(truth: Tensor, estimate: Tensor) -> Similarity:
    for name, c2w in (("asked", truth), ("recovered", estimate)):
        spread = straightness(c2w[:, :3, 3])
        if spread < LEAST_SPREAD:
            raise InputError(
                f"the {name} camera centres lie on one line or point (second singular value {spread:.2g} of the first, "
                f"at least {LEAST_SPREAD:g} is needed), so align='umeyama' has no rotation; use align='release'."
            )
    return umeyama(estimate[:, :3, 3], truth[:, :3, 3])


def _differences(truth: Tensor, aligned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rotation = rotation_angles_deg(truth[:, :3, :3].mT @ aligned[:, :3, :3])
    translation = (truth[:, :3, 3] - aligned[:, :3, 3]).norm(dim=1)
    return rotation, translation, (truth - aligned)[:, :3].flatten(1).norm(dim=1)
