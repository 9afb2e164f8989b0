"""Intrinsics in every form they come in, and under the resize and crop of their image (spec 30 section 2).

Intrinsics are (fx, fy, cx, cy) in pixels of the image they belong to; integer coordinates name pixel corners, and
scaling an image scales all four numbers (no half-pixel shift: the model was trained that way).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.array_files import as_float64, read_arrays

DEFAULT_FOV_DEG = 60.0
"""Assumed field of view along the longer side of an image whose intrinsics nobody knows."""
MIN_FOV_DEG, MAX_FOV_DEG = 25.0, 120.0
"""Both fields of view must lie strictly between these."""
MAX_RESIZED_PIXELS = 2**28

_FORMS = "(4,), (3,3), (frames,4) or (frames,3,3)"


def load_intrinsics(path: str | Path) -> npt.NDArray[np.float64]:
    """Array of an intrinsics file, `.npy` or `.npz` with `intrinsics`, in one of the forms of :func:`as_vec4`."""
    intrinsics = read_arrays(path, "intrinsics file", "intrinsics")["intrinsics"]
    _checked_sequence(intrinsics, f"intrinsics file '{path}'")
    return intrinsics


def as_vec4(array: Tensor | npt.ArrayLike, num_frames: int, name: str = "intrinsics") -> Tensor:
    """Intrinsics of any form as (F,4) float32 rows fx, fy, cx, cy, one per frame.

    Forms: (4,), (3,3), (frames,4), (frames,3,3); skew is ignored. One row is repeated, a longer sequence is cut, and
    a shorter one is stretched over the clip by linear interpolation. Refuses (4,4), which could be a matrix or a
    sequence.
    """
    values = array.detach().cpu().double().numpy() if isinstance(array, Tensor) else as_float64(array, name)
    rows = _checked_sequence(values, name).astype(np.float32)
    if num_frames < 1:
        raise InputError(f"the number of frames is {num_frames}; it must be at least 1.")
    if len(rows) == 1:
        rows = np.repeat(rows, num_frames, axis=0)
    elif len(rows) < num_frames:
        knots, times = (np.linspace(0, 1, count, dtype=np.float32) for count in (len(rows), num_frames))
        rows = np.stack([np.interp(times, knots, column) for column in rows.T], axis=1)
    return torch.from_numpy(np.ascontiguousarray(rows[:num_frames], dtype=np.float32))


def _checked_sequence(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    """Any form as (frames, 4), or :class:`InputError`."""
    shape = values.shape
    if shape == (4, 4):
        raise InputError(f"{name} has shape (4, 4), a matrix or four frames; give {_FORMS} (cut a 4x4 K to 3x3).")
    if values.ndim in (2, 3) and shape[-2:] == (3, 3):
        rows = values[..., (0, 1, 0, 1), (0, 1, 2, 2)].reshape(-1, 4)
    elif values.ndim in (1, 2) and shape[-1] == 4:
        rows = values.reshape(-1, 4)
    else:
        raise InputError(f"{name} has shape {shape}; it must be {_FORMS}.")
    if len(rows) == 0:
        raise InputError(f"{name} has shape {shape}; it must hold at least one frame.")
    bad = ~np.isfinite(rows).all(axis=1) | ~(rows[:, :2] > 0).all(axis=1) | (np.abs(rows) > 1e8).any(axis=1)
    if bad.any():
        frame = int(bad.argmax())
        raise InputError(
            f"{name}, frame {frame}, is fx, fy, cx, cy = {rows[frame].tolist()}; "
            "all four must be finite and the focal lengths above 0 pixels."
        )
    return rows


def fov_degrees(intrinsics: Tensor, wh: tuple[int, int]) -> Tensor:
    """Horizontal and vertical field of view in degrees, (...,2), of intrinsics (...,4) of an image of size `wh`."""
    size = intrinsics.new_tensor(wh, dtype=torch.float64)
    return torch.rad2deg(2.0 * torch.atan(size / (2.0 * intrinsics[..., :2].double())))


def check_fov(intrinsics: Tensor, wh: tuple[int, int], name: str = "intrinsics") -> None:
    """Refuse intrinsics (...,4) whose field of view leaves (25, 120) degrees across or down an image of size `wh`."""
    fov = fov_degrees(intrinsics, wh).reshape(-1, 2)
    bad = ~((fov > MIN_FOV_DEG) & (fov < MAX_FOV_DEG))
    if bad.any():
        row, axis = bad.nonzero()[0].tolist()
        raise InputError(
            f"{name} give the {wh[0]}x{wh[1]} image a {('horizontal', 'vertical')[axis]} field of view of "
            f"{fov[row, axis]:.1f} degrees; it must lie between {MIN_FOV_DEG:g} and {MAX_FOV_DEG:g}, "
            "so check that fx and fy are in pixels of this image."
        )


def default_intrinsics(src_wh: tuple[int, int], horizontal_fov_deg: float | None = None) -> Tensor:
    """Intrinsics (4,) float32 of a camera with square pixels and its axis in the centre of an image of size `src_wh`.

    Without a stated horizontal field of view, the longer side is taken to span :data:`DEFAULT_FOV_DEG`. Refused if
    either field of view leaves (25, 120) degrees.
    """
    width, height = src_wh
    if width < 1 or height < 1:
        raise InputError(f"the image size is {width}x{height}; both sides must be at least 1 pixel.")
    if horizontal_fov_deg is None:
        focal = max(src_wh) / (2.0 * math.tan(math.radians(DEFAULT_FOV_DEG) / 2.0))
    elif MIN_FOV_DEG < horizontal_fov_deg < MAX_FOV_DEG:
        focal = width / (2.0 * math.tan(math.radians(horizontal_fov_deg) / 2.0))
    else:
        raise InputError(
            f"the horizontal field of view is {horizontal_fov_deg} degrees; it must lie between "
            f"{MIN_FOV_DEG:g} and {MAX_FOV_DEG:g}."
        )
    intrinsics = torch.tensor([focal, focal, width / 2.0, height / 2.0], dtype=torch.float32)
    check_fov(intrinsics, src_wh, "the assumed intrinsics")
    return intrinsics


@dataclass(frozen=True)
class CropPlan:
    """Resize an image of size `src_wh` to `resized_wh`, then cut the target out of its middle."""

    src_wh: tuple[int, int]
    resized_wh: tuple[int, int]
    crop_left_top: tuple[int, int]
    target_hw: tuple[int, int]

    def apply(self, image: Image.Image) -> Image.Image:
        """The RGB image of the target size (Pillow LANCZOS). Turn it upright (EXIF) before planning."""
        if image.size != self.src_wh:
            raise InputError(
                f"the image is {image.size[0]}x{image.size[1]}; this crop is for {self.src_wh[0]}x{self.src_wh[1]}."
            )
        left, top = self.crop_left_top
        height, width = self.target_hw
        resized = image.convert("RGB").resize(self.resized_wh, Image.Resampling.LANCZOS)
        return resized.crop((left, top, left + width, top + height))

    def intrinsics(self, intrinsics: Tensor) -> Tensor:
        """Intrinsics (...,4) of the source image as those of the crop."""
        sx, sy = (new / old for new, old in zip(self.resized_wh, self.src_wh, strict=True))
        scaled = intrinsics * intrinsics.new_tensor([sx, sy, sx, sy])
        return scaled - scaled.new_tensor([0, 0, *self.crop_left_top])


def crop_plan(src_wh: tuple[int, int], target_hw: tuple[int, int]) -> CropPlan:
    """How an image of size `src_wh` (width, height) fills `target_hw` (height, width): covering it, cut centrally."""
    if min(*src_wh, *target_hw) < 1:
        raise InputError(f"source size {src_wh} and target size {target_hw} must be at least 1 pixel each way.")
    width, height = target_hw[1], target_hw[0]
    scale = max(height / src_wh[1], width / src_wh[0])
    # round() takes halves to the even neighbour, like the release
    resized = (max(width, round(src_wh[0] * scale)), max(height, round(src_wh[1] * scale)))
    if resized[0] * resized[1] > MAX_RESIZED_PIXELS:
        raise InputError(f"the image is {src_wh[0]}x{src_wh[1]}, too narrow to fill {width}x{height}; crop it first.")
    left, top = (resized[0] - width) // 2, (resized[1] - height) // 2
    return CropPlan((src_wh[0], src_wh[1]), resized, (left, top), (height, width))


def image_tensor(image: Image.Image) -> Tensor:
    """An RGB image as (3,H,W) float32 in [-1, 1] (spec 30 section 4.1)."""
    pixels: npt.NDArray[Any] = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32) / 255.0 * 2.0 - 1.0
