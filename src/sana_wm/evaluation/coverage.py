"""How much of a scene a camera sees: counts and empty tiles of projected points (spec 60-annotation.md section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.poses import check_poses, inverse_rigid

NEAR = 0.01
TILES = (32, 32)
EVERY = 10
"""Frames between the poses that the published check looks from."""


@dataclass(frozen=True)
class Coverage:
    """What each of V views sees: count (V,) int64 points, and empty_fraction (V,) float64 of tiles without a point."""

    count: Tensor
    empty_fraction: Tensor


def coverage(
    points: Tensor,
    c2w: Tensor,
    intrinsics: Tensor,
    image_hw: tuple[int, int],
    *,
    tiles: tuple[int, int] = TILES,
    near: float = NEAR,
) -> Coverage:
    """Project points (n,3) into views c2w (V,4,4) with intrinsics (4,) or (V,4) in pixels of an H x W image.

    A point counts where it is farther than `near` in front of the camera and 0 <= x < W, 0 <= y < H. tiles: rows and
    columns of the grid. Take every tenth pose of a path before calling. Raises :class:`InputError` for other shapes.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points has the shape {tuple(points.shape)}; it must be (n, 3).")
    (H, W), (rows, columns) = image_hw, tiles
    if min(H, W, rows, columns) < 1:
        raise InputError(f"the image is {H}x{W} with {rows}x{columns} tiles; every number must be at least 1.")
    check_poses(c2w)
    if tuple(intrinsics.shape) not in ((4,), (len(c2w), 4)):
        raise InputError(f"intrinsics has the shape {tuple(intrinsics.shape)}; it must be (4,) or ({len(c2w)}, 4).")
    lens = intrinsics.double().expand(len(c2w), 4)
    counts, empty = [], []
    for w2c, (fx, fy, cx, cy) in zip(inverse_rigid(c2w.double()), lens.tolist(), strict=True):
        x, y, z = (points.double() @ w2c[:3, :3].mT + w2c[:3, 3]).unbind(-1)
        front = z > near
        px, py = fx * x[front] / z[front] + cx, fy * y[front] / z[front] + cy
        inside = (px >= 0) & (px < W) & (py >= 0) & (py < H)
        # the clamp is for a quotient that rounds up to the size of the grid
        tile_x = (px[inside] / W * columns).long().clamp_max(columns - 1)
        tile_y = (py[inside] / H * rows).long().clamp_max(rows - 1)
        counts.append(int(inside.sum()))
        empty.append(1.0 - len(torch.unique(tile_y * columns + tile_x)) / (rows * columns))
    return Coverage(torch.tensor(counts, dtype=torch.int64), torch.tensor(empty, dtype=torch.float64))
