"""What can be seen in a clip, from the scene's geometry alone: a 24 x 40 picture of outlines, painted far to near.

This is for captions, so it is cheap (about half a millisecond a clip) and errs towards "not visible": an outline is
the bounding rectangle of a solid, which hides a little more than the solid itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sana_wm.worlds.procedural.layout import Layout
from sana_wm.worlds.procedural.scene import BALLS, COLUMNS, NUM_SOLIDS, WEDGES, Col, Env

LINES, CELLS = 24, 40
_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
_SHRINK = np.where(
    np.arange(NUM_SOLIDS) < WEDGES.start, 0.96, np.where(np.arange(NUM_SOLIDS) < COLUMNS.start, 0.7, 0.95)
)
_SHRINK[BALLS] = 0.86
_NEAR = 0.15


@dataclass(frozen=True)
class Seen:
    """What is in sight.

    Attributes:
        share: for every thing of the layout, the largest share of a frame that it covers.
        first: share of the first frame that it covers.
        side: its horizontal place in the first frame, 0 left to 1 right.
        distance: metres to it in the first frame.
        sun: the sun (or moon) shows.
        road: the road shows.
        horizon: enough of the horizon is free for the far mountains to show.
        sky: share of free cells above the horizon.
    """

    share: np.ndarray
    first: np.ndarray
    side: np.ndarray
    distance: np.ndarray
    sun: bool
    road: bool
    horizon: bool
    sky: float


def look(layout: Layout, c2w: np.ndarray, lens: float) -> Seen:
    """Find out what shows in the first, middle and last frame of ``c2w (F, 4, 4)`` under a horizontal view of ``lens``
    deg.
    """
    poses = c2w[[0, len(c2w) // 2, len(c2w) - 1]].astype(np.float64)
    focal = 0.5 * CELLS / math.tan(math.radians(lens) / 2)
    s = layout.surfaces[:NUM_SOLIDS].astype(np.float64)
    used = np.flatnonzero(s[:, Col.Y] < 1e3)
    s = s[used]
    local = _CORNERS[None] * s[:, None, Col.HX : Col.HZ + 1]
    cos, sin = s[:, Col.COS, None], s[:, Col.SIN, None]
    corners = np.stack(
        [cos * local[..., 0] - sin * local[..., 2], local[..., 1], sin * local[..., 0] + cos * local[..., 2]], -1
    )
    corners[..., 1] = np.minimum(corners[..., 1], -s[:, Col.Y, None])  # the ground hides what is below it
    corners += s[:, None, Col.X : Col.Z + 1]
    owner = np.full(NUM_SOLIDS, -1)
    for number, thing in enumerate(layout.things):
        owner[list(thing.rows)] = number
    shares = np.zeros((3, len(layout.things)))
    side = np.full(len(layout.things), 0.5)
    road = horizon = sun = False
    free_sky = 0.0
    fog = float(layout.environment[Env.FOG])
    for k, pose in enumerate(poses):
        picture = _paint(corners, s, used, owner, pose, focal)
        for number in np.unique(picture[picture >= 0]):
            cells = picture == number
            shares[k, number] = cells.mean()
            if k == 0:
                side[number] = (np.nonzero(cells)[1].mean() + 0.5) / CELLS
        open_cells = picture < 0
        sun |= _free(open_cells, pose, focal, layout.environment[None, Env.SUN_X : Env.SUN_Z + 1], False) > 0
        road |= _free(open_cells, pose, focal, _road_points(layout, pose), True) >= 3
        angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
        around = np.stack([np.sin(angles), np.full(72, -0.04), np.cos(angles)], 1)
        free = _free(open_cells, pose, focal, around, False)
        horizon |= free >= 0.25 * lens / 5
        line = int(np.clip(0.5 * LINES - focal * pose[1, 2] / max(0.2, math.hypot(pose[0, 2], pose[2, 2])), 0, LINES))
        free_sky = max(free_sky, float(open_cells[:line].sum()) / picture.size)
    place = np.array([[thing.x, thing.z] for thing in layout.things]).reshape(-1, 2)
    distance = np.hypot(place[:, 0] - poses[0, 0, 3], place[:, 1] - poses[0, 2, 3])
    shares[:, np.exp(-fog * distance) < 0.12] = 0
    return Seen(shares.max(0), shares[0], side, distance, bool(sun), bool(road), bool(horizon), free_sky)


def _paint(
    corners: np.ndarray, s: np.ndarray, used: np.ndarray, owner: np.ndarray, pose: np.ndarray, focal: float
) -> np.ndarray:
    """Picture of thing numbers (-1: nothing) seen from one pose."""
    camera = (corners - pose[:3, 3]) @ pose[:3, :3]
    z = np.maximum(camera[..., 2], _NEAR)
    x, y = focal * camera[..., 0] / z, focal * camera[..., 1] / z
    centre = (s[:, Col.X : Col.Z + 1] - pose[:3, 3]) @ pose[:3, :3]
    depth = np.maximum(centre[:, 2] - np.maximum(s[:, Col.HX], s[:, Col.HZ]), _NEAR)
    low, high = np.stack([x.min(1), y.min(1)], 1), np.stack([x.max(1), y.max(1)], 1)
    middle, half = 0.5 * (low + high), 0.5 * (high - low) * _SHRINK[used][:, None]
    offset = np.array([CELLS / 2, LINES / 2])
    start = np.clip(np.rint(middle - half + offset), 0, [CELLS, LINES]).astype(int)
    stop = np.clip(np.rint(middle + half + offset), 0, [CELLS, LINES]).astype(int)
    ahead = camera[..., 2].max(1) > _NEAR
    picture = np.full((LINES, CELLS), -1)
    for i in np.argsort(-depth):
        if ahead[i]:
            picture[start[i, 1] : stop[i, 1], start[i, 0] : stop[i, 0]] = owner[used[i]]
    return picture


def _free(open_cells: np.ndarray, pose: np.ndarray, focal: float, points: np.ndarray, finite: bool) -> int:
    """How many of the points (or directions) fall on free cells."""
    camera = (points - pose[:3, 3] if finite else points) @ pose[:3, :3]
    z = camera[:, 2]
    column = np.floor(focal * camera[:, 0] / np.maximum(z, 1e-3) + CELLS / 2)
    row = np.floor(focal * camera[:, 1] / np.maximum(z, 1e-3) + LINES / 2)
    inside = (z > 0.05) & (column >= 0) & (column < CELLS) & (row >= 0) & (row < LINES)
    return int(open_cells[row[inside].astype(int), column[inside].astype(int)].sum())


def _road_points(layout: Layout, pose: np.ndarray) -> np.ndarray:
    """Points along the middle of the road within 18 m of the camera, or none."""
    env = layout.environment.astype(np.float64)
    if env[Env.ROAD_HALF] < 0:
        return np.zeros((0, 3))
    cos, sin = env[Env.ROAD_COS], env[Env.ROAD_SIN]
    along = cos * pose[0, 3] + sin * pose[2, 3] + np.linspace(-18, 18, 25)
    across = env[Env.ROAD_OFFSET] + env[Env.ROAD_BEND] * np.sin(along * env[Env.ROAD_WAVE])
    return np.stack([cos * along - sin * across, np.zeros_like(along), sin * along + cos * across], 1)
