"""A smooth random walker: what a person does with the keys, kept away from walls.

Speeds are metres per frame, turns degrees per frame (positive: to the left), positions map units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sana_wm.worlds.doom.level import PLAYER_RADIUS, Floats, Level, cast

_KINDS = ("forward", "arc", "look", "strafe", "diagonal", "back", "stop")
_SHARES = (0.38, 0.17, 0.15, 0.10, 0.06, 0.08, 0.06)
_SMOOTHING = 0.2  # share of the way to the wanted motion made in one frame: about five frames to speed up or stop
_SIGHT = 160.0  # map units: walls farther away do not change the walk
_MAX_TURN = 1.5


@dataclass(frozen=True)
class Motion:
    """Motion wanted during one frame: metres ahead, metres to the right, degrees to the left."""

    ahead: float
    right: float
    turn: float


class Wanderer:
    """Draws motions for one clip that starts at ``place`` (map units); all randomness comes from ``rng``."""

    def __init__(self, level: Level, place: Floats, rng: np.random.Generator) -> None:
        self._rng = rng
        self._walls = level.plan.ends[level.near(place, 3 * _SIGHT, level.solid)]
        self._now: NDArray[np.float64] = np.zeros(3)
        self._wanted: NDArray[np.float64] = np.zeros(3)
        self._frames_left = 0
        self._avoid = 0.0

    def _draw(self) -> None:
        rng = self._rng
        kind = rng.choice(_KINDS, p=_SHARES)
        speed, side, drift = rng.uniform(0.02, 0.06), rng.choice((-1.0, 1.0)), rng.normal(0.0, 0.3)
        self._frames_left = int(rng.integers(6, 20) if kind == "stop" else rng.integers(20, 72))
        self._wanted = np.array(
            {
                "forward": (speed, 0.0, drift),
                "arc": (speed, 0.0, side * rng.uniform(0.4, 1.2)),
                "look": (0.0, 0.0, side * rng.uniform(0.4, _MAX_TURN)),
                "strafe": (0.0, side * speed, 0.5 * drift),
                "diagonal": (0.8 * speed, 0.6 * side * speed, drift),
                "back": (-0.7 * speed, 0.0, 0.5 * drift),
                "stop": (0.0, 0.0, 0.0),
            }[str(kind)]
        )

    def step(self, place: Floats, heading: float) -> Motion:
        """Return the next motion of a walker at ``place`` (map units) that faces ``heading`` (radians)."""
        if self._frames_left <= 0:
            self._draw()
        self._frames_left -= 1
        ahead, right, turn = self._wanted
        speed = float(np.hypot(ahead, right))
        if speed > 0:
            course = heading + np.arctan2(-right, ahead)
            angles = np.concatenate((course + np.radians((-25.0, 0.0, 25.0)), heading + np.radians((55.0, -55.0))))
            room, _ = cast(place, angles, self._walls, _SIGHT)
            gap = float(room[:3].min()) - PLAYER_RADIUS
            if gap < 8:
                self._frames_left = min(self._frames_left, 2)
            scale = float(np.clip(gap / 40, 0, 1))
            ahead, right = ahead * scale, right * scale
            if ahead > 0 and gap < 96:
                # Keep turning the way one has begun to turn: a walker that changes its mind stays in the corner.
                self._avoid = self._avoid or (1.0 if room[3] > room[4] else -1.0)
                turn = self._avoid * _MAX_TURN * (1.1 - gap / 96)
            else:
                self._avoid = 0.0
        self._now += _SMOOTHING * (np.array((ahead, right, np.clip(turn, -_MAX_TURN, _MAX_TURN))) - self._now)
        return Motion(*self._now.tolist())
