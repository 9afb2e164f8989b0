"""Camera poses: reading, checking, re-basing, how many a video uses (spec 30 sections 2.1, 2.2, 2.6 and 7).

A pose is a 4x4 camera-to-world matrix acting on column vectors, OpenCV axes (x right, y down, z forward), in scene
units (nominally metres). Small products are written as sums, so that neither autocast nor TF32 takes precision from
the geometry.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.array_files import as_float64, read_arrays

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Allowed departure of R^T R from the identity, and of the bottom row from (0, 0, 0, 1)."""
LARGE_STEP_UNITS, LARGE_STEP_DEG = 0.5, 12.0
"""Motion per frame above which a path is reported as unusual: twenty times the default speeds of the keys."""

Convention = Literal["opencv", "opengl"]


@dataclass(frozen=True)
class PoseFile:
    """What a pose file holds: c2w (F,4,4) float32, and from the benchmark's `.npz` also intrinsics and frame rate."""

    c2w: Tensor
    intrinsics: npt.NDArray[np.float64] | None = None
    fps: float | None = None


def load_pose_file(path: str | Path, convention: Convention = "opencv") -> PoseFile:
    """Read and check a `.npy` file (F,4,4), or a `.npz` with `c2w` and optional `intrinsics`, `fps`, `num_frames`."""
    arrays = read_arrays(path, "pose file", "c2w", ("intrinsics", "fps", "num_frames"))
    c2w = check_poses(arrays["c2w"], f"pose file '{path}'")
    frames, fps = (_single(arrays.get(name), f"{name} of pose file '{path}'") for name in ("num_frames", "fps"))
    if frames is not None and frames != len(c2w):
        raise InputError(f"pose file '{path}' says num_frames = {frames:g} but holds {len(c2w)} poses.")
    if fps is not None and fps <= 0:
        raise InputError(f"fps of pose file '{path}' is {fps:g}; it must be above 0.")
    if convention == "opengl":
        c2w = opengl_to_opencv(c2w)
    warn_large_steps(c2w, f"pose file '{path}'")
    return PoseFile(c2w, arrays.get("intrinsics"), fps)


def _single(array: npt.NDArray[np.float64] | None, name: str) -> float | None:
    if array is None:
        return None
    if array.size != 1 or not np.isfinite(array).all():
        raise InputError(f"{name} is {array.tolist()}; it must be one finite number.")
    return float(array.item())


def load_poses(path: str | Path, convention: Convention = "opencv") -> Tensor:
    """Poses of a file, (F,4,4) float32 in OpenCV axes; see :func:`load_pose_file`."""
    return load_pose_file(path, convention).c2w


def check_poses(c2w: Tensor | npt.NDArray[Any], name: str = "c2w") -> Tensor:
    """The poses as (F,4,4) float32 if rigid and right-handed; else :class:`InputError` naming the first bad frame."""
    poses = c2w if isinstance(c2w, Tensor) else torch.from_numpy(as_float64(c2w, name))
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or len(poses) == 0:
        raise InputError(f"{name} has shape {tuple(poses.shape)}; it must be (frames, 4, 4) with at least one frame.")
    if poses.is_complex() or poses.dtype == torch.bool:
        raise InputError(f"{name} has type {poses.dtype}; it must hold real numbers.")
    poses = poses.to(torch.float32)
    exact = poses.detach().double()
    _refuse(~torch.isfinite(exact).all((1, 2)), name, "holds a value that is not finite; every entry must be a number")
    bottom = (exact[:, 3] - exact.new_tensor([0.0, 0.0, 0.0, 1.0])).abs().amax(1)
    _refuse(bottom > TOLERANCE, name, "has a bottom row other than 0 0 0 1; give 4x4 camera-to-world matrices")
    rotation = exact[:, :3, :3]
    gram = rotation.mT @ rotation - torch.eye(3, dtype=torch.float64, device=exact.device)
    _refuse(
        gram.abs().amax((1, 2)) > TOLERANCE, name, "has a 3x3 part that is no rotation; its columns must be orthonormal"
    )
    _refuse(
        torch.linalg.det(rotation) < 0,
        name,
        "is left-handed (determinant -1); use OpenCV axes x right, y down, z forward",
    )
    return poses


def _refuse(bad: Tensor, name: str, complaint: str) -> None:
    if bad.any():
        frame = int(bad.nonzero()[0, 0])
        raise InputError(f"{name}, frame {frame}, {complaint}.")


def warn_large_steps(c2w: Tensor, name: str = "c2w") -> None:
    """Log a warning if poses (F,4,4) move or turn far more per frame than the videos such models learn from."""
    relative = compose(inverse_rigid(c2w[:-1]), c2w[1:])
    if len(relative) == 0:
        return
    distance = float(relative[:, :3, 3].norm(dim=1).max())
    # |R - I| = 2 sqrt(2) sin(angle / 2): exact for small angles, where the arc cosine of the trace is not
    chord = (relative[:, :3, :3] - torch.eye(3, device=c2w.device)).flatten(1).norm(dim=1).max()
    angle = 2.0 * math.degrees(math.asin(min(1.0, float(chord) / math.sqrt(8.0))))
    if distance > LARGE_STEP_UNITS or angle > LARGE_STEP_DEG:
        logger.warning(
            "%s moves up to %.3g units and turns up to %.3g degrees per frame, far above what the model knows "
            "(0.025 units and 0.6 degrees are usual); check its unit and frame rate",
            name,
            distance,
            angle,
        )


def opengl_to_opencv(c2w: Tensor) -> Tensor:
    """Poses (...,4,4) of a camera with OpenGL axes (x right, y up, z backward) with its axes renamed to OpenCV's."""
    return c2w * c2w.new_tensor([1.0, -1.0, -1.0, 1.0])


def compose(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of small matrices (...,i,j) and (...,j,k), in the tensors' own precision on every device."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    """The 4x4 matrices (...,4,4) of rotations (...,3,3) and translations (...,3)."""
    top = torch.cat((rotation, translation[..., None]), dim=-1)
    bottom = torch.eye(4, dtype=top.dtype, device=top.device)[3:].expand(*top.shape[:-2], 1, 4)
    return torch.cat((top, bottom), dim=-2)


def inverse_rigid(pose: Tensor) -> Tensor:
    """Inverse of rigid poses (...,4,4): (R^T, -R^T t)."""
    rotation = pose[..., :3, :3].mT
    return rigid(rotation, -(rotation * pose[..., None, :3, 3]).sum(-1))


def relative_to_first(c2w: Tensor) -> Tensor:
    """Poses (...,F,4,4) seen from the first frame: inv(P_0) P_i, with exactly the identity first."""
    later = compose(inverse_rigid(c2w[..., :1, :, :]), c2w[..., 1:, :, :])
    first = torch.eye(4, dtype=c2w.dtype, device=c2w.device).expand_as(c2w[..., :1, :, :])
    return torch.cat((first, later), dim=-3)


def snap_num_frames(requested: int, available: int | None, stride: int = 8) -> int:
    """Frames of a video, stride * k + 1, when `requested` are wanted and `available` poses exist (None: any number).

    The nearest such number to min(requested, available); ties go up unless the poses run out. Strides: 8 for a whole
    clip, 24 where the refiner works in blocks of three latent frames. Never below 1.
    """
    if stride < 1 or (available is not None and available < 1):
        raise InputError(f"stride {stride} and available frames {available} must be at least 1.")
    wanted = max(1, requested if available is None else min(requested, available))
    below = wanted - (wanted - 1) % stride
    above = below + stride
    if wanted - below < above - wanted or (available is not None and above > available):
        return below
    return above
