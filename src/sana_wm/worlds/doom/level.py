"""The plan of a level as something to walk in: what stops a walker, how far one sees, where one can stand.

Positions are map units (x east, y north), angles radians counter-clockwise from east, as in the game.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sana_wm.worlds.doom.wad import WadMap

PLAYER_RADIUS = 16.0
_PLAYER_HEIGHT, _EYE_HEIGHT, _STEP = 56.0, 41.0, 24.0
_SKY = "F_SKY1"
Floats = NDArray[np.float64]


class Level:
    """Walls, heights and standing places of one map.

    Attributes:
        plan: the map it was made from.
        solid: ``(L,)`` bool, lines a walker does not pass: walls, steps over 24 units up or down, low openings, closed
            doors.
        sky: ``(S,)`` bool, sectors under the open sky.
    """

    def __init__(self, plan: WadMap) -> None:
        self.plan = plan
        self._low, self._high = plan.ends.min(axis=1), plan.ends.max(axis=1)
        front, back = plan.sides[:, 0], plan.sides[:, 1]
        one_sided = (front < 0) | (back < 0)
        step = np.abs(plan.floor[front] - plan.floor[back])
        self._one_sided = one_sided
        self._lowest_ceiling = np.minimum(plan.ceiling[front], plan.ceiling[back])
        self._highest_floor = np.maximum(plan.floor[front], plan.floor[back])
        opening = self._lowest_ceiling - self._highest_floor
        # Lines that teleport, end the level or close doors carry a special; staying away from them keeps the world
        # still.
        self.solid = one_sided | plan.blocking | (opening < _PLAYER_HEIGHT) | (step > _STEP) | (plan.special > 0)
        self.sky = plan.ceiling_flat == _SKY
        self._reachable = self._connected_sectors()

    def _connected_sectors(self) -> NDArray[np.bool_]:
        """Sectors joined to the player's start through any two-sided line; the rest are sealed off and never seen."""
        sides = self.plan.sides
        pairs = sides[(sides >= 0).all(axis=1)]
        reached = np.zeros(len(self.plan.floor), bool)
        reached[self.sector_at(self.plan.start[None])] = True
        while True:
            touching = reached[pairs].any(axis=1)
            if reached[pairs[touching]].all():
                return reached
            reached[pairs[touching].ravel()] = True

    def sector_at(self, points: Floats) -> NDArray[np.int64]:
        """Return the sector ``(N,)`` under each of ``points (N, 2)``, -1 outside the level.

        The sector is the one on the near side of the first line met going east.
        """
        ends = self.plan.ends
        # Only lines that reach into the points' range of y, east of the westmost point, can be met.
        useful = (self._low[:, 1] <= points[:, 1].max()) & (self._high[:, 1] >= points[:, 1].min())
        met = np.flatnonzero(useful & (self._high[:, 0] > points[:, 0].min()))
        if len(met) == 0:
            return np.full(len(points), -1)
        a, b = ends[met, 0], ends[met, 1]
        x, y = points[:, 0, None], points[:, 1, None]
        rise = np.where(a[:, 1] == b[:, 1], 1.0, b[:, 1] - a[:, 1])
        crosses = (a[:, 1] > y) != (b[:, 1] > y)
        reach = np.where(crosses, a[:, 0] + (y - a[:, 1]) / rise * (b[:, 0] - a[:, 0]) - x, np.inf)
        reach[reach <= 0] = np.inf
        line = reach.argmin(axis=1)
        # The front is on the right of the direction of travel; west of a line that goes north is its left, the back.
        west = np.where(b[line, 1] > a[line, 1], 1, 0)
        sector = self.plan.sides[met[line], west]
        return np.where(np.isinf(reach[np.arange(len(points)), line]), -1, sector)

    def opaque(self, place: Floats) -> NDArray[np.bool_]:
        """Return which lines ``(L,)`` end the sight of a player who stands at ``place`` and looks level."""
        eye = self.plan.floor[self.sector_at(place[None])[0]] + _EYE_HEIGHT
        return self._one_sided | (self._highest_floor >= eye) | (self._lowest_ceiling <= eye)

    def near(self, point: Floats, distance: float, lines: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the indices ``(K,)`` of those of ``lines`` (mask ``(L,)``) that may lie that near to ``point``."""
        inside = (self._low <= point + distance) & (self._high >= point - distance)
        return np.flatnonzero(lines & inside.all(axis=1))

    def places(self, rng: np.random.Generator, count: int) -> Floats:
        """Return up to ``count`` random places ``(N, 2)`` where a player can stand clear of every wall."""
        ends = self.plan.ends[self.solid]
        low, high = ends.min(axis=(0, 1)), ends.max(axis=(0, 1))
        found = [np.zeros((0, 2))]
        for _ in range(256):
            # A narrow band of latitude at a time: few lines have to be looked at.
            south = rng.uniform(low[1], high[1])
            points = rng.uniform((low[0], south), (high[0], south + 64.0), (32, 2))
            sector = self.sector_at(points)
            height = self.plan.ceiling[sector] - self.plan.floor[sector]
            points = points[(sector >= 0) & self._reachable[sector] & (height >= _PLAYER_HEIGHT + 8)]
            found.append(points[distances(points, ends) > 1.75 * PLAYER_RADIUS])
            if sum(len(part) for part in found) >= count:
                break
        return np.concatenate(found)[:count]


def distances(points: Floats, ends: Floats) -> Floats:
    """Return the distance ``(N,)`` of each of ``points (N, 2)`` from the nearest segment of ``ends (K, 2, 2)``."""
    a, along = ends[:, 0], ends[:, 1] - ends[:, 0]
    offset = points[:, None] - a
    share = np.clip((offset * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9), 0, 1)
    return np.linalg.norm(offset - share[..., None] * along, axis=-1).min(axis=1, initial=np.inf)


def cast(point: Floats, angles: Floats, ends: Floats, limit: float) -> tuple[Floats, NDArray[np.int64]]:
    """Return the distance ``(A,)`` to the first segment of ``ends (K, 2, 2)`` in each direction, and its index (-1:
    none).

    Distances are cut at ``limit``.
    """
    if len(ends) == 0:
        return np.full(len(angles), limit), np.full(len(angles), -1)
    dx, dy = np.cos(angles)[:, None], np.sin(angles)[:, None]
    ax, ay = (ends[:, 0] - point).T
    ex, ey = (ends[:, 1] - ends[:, 0]).T
    cross = dx * ey - dy * ex
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (ax * ey - ay * ex) / cross
        share = (ax * dy - ay * dx) / cross
        hit = (distance > 0) & (share >= 0) & (share <= 1)
    distance = np.where(hit, distance, np.inf)
    nearest = distance.argmin(axis=1)
    reach = distance[np.arange(len(angles)), nearest]
    return np.minimum(reach, limit), np.where(reach < limit, nearest, -1)
