"""How far the camera of a video went from where it was sent, ready for JSON (spec 61-benchmark.md section 3)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.engines import Recovered
from sana_wm.evaluation.pose_error import (
    LEAST_REGISTERED,
    Align,
    PoseErrors,
    path_length,
    pose_errors,
    relative_pose_errors,
)
from sana_wm.evaluation.umeyama import straightness
from sana_wm.geometry.poses import relative_to_first

GAP_FRAMES = 16
"""Frames over which the relative error of the motion is taken."""
STILL = 0.5
"""A path shorter than this is mostly a turn; errors are not compared with its length."""
LEAST_BEND = 0.05
"""Second singular value of the centres over the first, below which errors of a few hundredths of the path would turn it
at random in an alignment by the centres."""
DIGITS = 6


def camera_numbers(
    asked: Tensor, recovered: Recovered, *, interval: int, skip_first: bool, metric: bool = False
) -> dict[str, Any]:
    """Everything known about the camera of one video.

    asked: (F,4,4), a pose a frame. recovered: poses of the frames 0, interval, 2 interval ... metric: they are in the
    unit of the asked path, so that their length before any alignment says whether the camera goes as far as it should.

    Returns:
        `failed`: why this counts as failed, or None; `registered`: share of the sampled frames with a pose; `release`
        and `umeyama`: errors after that alignment, or `undefined` with the reason; `frames` and `curves`: errors frame
        by frame after the release's alignment; `asked`, `recovered`, `aligned`: the poses as 12 numbers each, None
        where there is none: relative to the first compared frame, as the engine gave them, and brought onto the asked.
    """
    result: dict[str, Any] = {
        "interval": interval,
        "skip_first_frame": skip_first,
        "recovered": [row if ok else None for row, ok in zip(_rows(recovered.c2w), recovered.valid.tolist())],  # noqa: B905
    }
    sampled = asked[::interval][skip_first:]
    seen = recovered.valid[skip_first : skip_first + len(sampled)]
    result["registered"] = float(seen.sum()) / len(sampled) if len(sampled) else 0.0
    result["asked"] = _rows(relative_to_first(sampled.double())) if len(sampled) else []
    result["failed"] = _too_few(int(seen.sum()), len(sampled))
    if not seen.any():
        return result
    for align in ("release", "umeyama"):
        if align == "umeyama" and (reason := _too_straight(asked)) is not None:
            result[align] = {"undefined": reason}
            continue
        try:
            errors = _errors(asked, recovered, align, interval, skip_first)
        except InputError as error:  # the documented answer to paths that have no such alignment
            result[align] = {"undefined": str(error)}
            continue
        result[align] = _numbers(errors, interval)
        if align == "release":
            if metric:
                result[align]["metric_length_ratio"] = _metric_length_ratio(errors)
            frames = range(interval * skip_first, interval * (len(errors.truth) + skip_first), interval)
            result["frames"] = list(frames)
            result["curves"] = {
                "rotation_deg": _curve(errors.rotation_deg),
                "translation": _curve(errors.translation),
                "motion": _curve(errors.motion),
            }
            result["asked"] = _rows(errors.truth)
            result["aligned"] = _rows(errors.aligned)
    if result["failed"] is None and "undefined" in result["release"]:
        result["failed"] = result["release"]["undefined"]
    return result


def floor_numbers(camera: dict[str, Any]) -> dict[str, Any]:
    """What is kept of :func:`camera_numbers` where a video is only measured to know the engine's own error."""
    return {name: camera[name] for name in ("failed", "registered", "release", "umeyama") if name in camera}


def _errors(asked: Tensor, recovered: Recovered, align: Align, interval: int, skip_first: bool) -> PoseErrors:
    return pose_errors(
        asked, recovered.c2w, align=align, interval=interval, skip_first_frame=skip_first, valid=recovered.valid
    )


def _too_few(seen: int, wanted: int) -> str | None:
    if wanted and seen / wanted >= LEAST_REGISTERED:
        return None
    return f"a pose was recovered for {seen} of {wanted} frames; at least {LEAST_REGISTERED:.0%} are needed"


def _numbers(errors: PoseErrors, interval: int) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "rot_err": errors.rot_err,
        "trans_err": errors.trans_err,
        "cam_mc": errors.cam_mc,
        "trans_err_of_path": _of_path(errors),
        "path_length_ratio": errors.path_length_ratio,
    }
    gap = max(1, round(GAP_FRAMES / interval))
    if gap < len(errors.truth):
        relative = relative_pose_errors(errors, gap)
        numbers["relative"] = {
            "gap_frames": gap * interval,
            "rotation_deg": _finite(relative.mean_rotation_deg),
            "translation": _finite(relative.mean_translation),
        }
    return numbers


def _too_straight(asked: Tensor) -> str | None:
    bend = straightness(asked[:, :3, 3].double())
    if bend >= LEAST_BEND:
        return None
    return f"the asked path bends by {bend:.2g}; below {LEAST_BEND:g} its centres say too little about a rotation"


def _of_path(errors: PoseErrors) -> float | None:
    """TransErr over the length of the asked path; None for a path that is mostly a turn."""
    length = path_length(errors.truth)
    return errors.trans_err / length if length >= STILL else None


def _metric_length_ratio(errors: PoseErrors) -> float | None:
    """Length of the recovered path before alignment over that of the asked one, where both are known."""
    seen = ~errors.rotation_deg.isnan()
    asked = path_length(errors.truth[seen])
    scale = abs(errors.alignment.scale)
    return path_length(errors.aligned[seen]) / scale / asked if asked >= STILL and scale > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _curve(values: Tensor) -> list[float | None]:
    return [round(value, DIGITS) if math.isfinite(value) else None for value in values.tolist()]


def _rows(c2w: Tensor) -> list[list[float] | None]:
    """The upper three rows of poses (n,4,4) as 12 numbers each; None where they are not finite."""
    rows = c2w[:, :3].double().flatten(1).tolist()
    return [[round(v, DIGITS) for v in row] if all(map(math.isfinite, row)) else None for row in rows]
