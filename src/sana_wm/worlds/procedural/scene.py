"""What a procedural scene is made of: a table of surfaces and a vector of light and weather.

World frame: metres, ``+Y`` **down** (OpenCV world), flat ground at ``y = 0``; everything that stands has negative
``y``.

Every scene has the same rows, so scenes batch into plain tensors and the renderer needs no branches: ``NUM_BOXES``
boxes, then ``NUM_WEDGES`` tapered boxes (roofs, pyramids, obelisks), ``NUM_COLUMNS`` vertical cylinders, ``NUM_BALLS``
ellipsoids, and two rows that hold only a material: ground and sky. A row that a scene does not need is parked out of
sight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np
import torch
from torch import Tensor

NUM_BOXES, NUM_WEDGES, NUM_COLUMNS, NUM_BALLS = 11, 6, 6, 9
NUM_SOLIDS = NUM_BOXES + NUM_WEDGES + NUM_COLUMNS + NUM_BALLS
GROUND, SKY = NUM_SOLIDS, NUM_SOLIDS + 1
NUM_ROWS = NUM_SOLIDS + 2
BOXES = slice(0, NUM_BOXES)
WEDGES = slice(NUM_BOXES, NUM_BOXES + NUM_WEDGES)
COLUMNS = slice(WEDGES.stop, WEDGES.stop + NUM_COLUMNS)
BALLS = slice(COLUMNS.stop, COLUMNS.stop + NUM_BALLS)


class _FromZero(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count


class Col(_FromZero):
    """Columns of the surface table."""

    X = auto()  # centre, metres
    Y = auto()
    Z = auto()
    COS = auto()  # turn about the vertical
    SIN = auto()
    HX = auto()  # half extents, metres
    HY = auto()
    HZ = auto()
    KX = auto()  # taper towards the top: 0 upright, 1 to an edge
    KZ = auto()
    R1 = auto()  # base colour
    G1 = auto()
    B1 = auto()
    R2 = auto()  # colour of the pattern
    G2 = auto()
    B2 = auto()
    SU = auto()  # period of the pattern, metres
    SV = auto()
    GU = auto()  # share of a period that the pattern's bars take
    GV = auto()
    MU = auto()  # pattern = MU * bars(u) + MV * bars(v) + MUV * bars(u) * bars(v)
    MV = auto()
    MUV = auto()
    PHASE = auto()  # where the bars lie in a period: 0 around its borders (mortar), 0.5 in its middle (windows)
    SHIFT = auto()  # shift of every other row in periods (0.5 for brick)
    TINT = auto()  # brightness variation from cell to cell
    MOTTLE = auto()  # brightness of the noise
    GRAIN = auto()  # size of the noise, metres
    PATCH = auto()  # share of the second colour in large patches
    GLOW = auto()  # light that the pattern itself gives (lit windows)


class Env(_FromZero):
    """Entries of the light-and-weather vector."""

    SUN_X = auto()  # unit vector towards the sun (or moon), so SUN_Y < 0
    SUN_Y = auto()
    SUN_Z = auto()
    SUN_R = auto()
    SUN_G = auto()
    SUN_B = auto()
    AMBIENT_R = auto()
    AMBIENT_G = auto()
    AMBIENT_B = auto()
    ZENITH_R = auto()
    ZENITH_G = auto()
    ZENITH_B = auto()
    HORIZON_R = auto()
    HORIZON_G = auto()
    HORIZON_B = auto()
    FOG = auto()  # 1 / metres
    DISC = auto()  # cosine of the sun's angular radius
    GLOW = auto()  # strength of the halo
    CLOUDS = auto()  # opacity 0..1
    RIDGE = auto()  # height of the far mountains (tangent of elevation)
    RIDGE_R = auto()
    RIDGE_G = auto()
    RIDGE_B = auto()
    RIDGE_A = auto()  # phases of the ridge line
    RIDGE_C = auto()
    ROAD_COS = auto()  # direction of the road on the ground
    ROAD_SIN = auto()
    ROAD_OFFSET = auto()
    ROAD_HALF = auto()  # half width, metres; negative without a road
    ROAD_BEND = auto()
    ROAD_WAVE = auto()  # 1 / metres
    ROAD_R = auto()
    ROAD_G = auto()
    ROAD_B = auto()
    ROAD_DASH = auto()  # brightness of the dashes along the middle


NUM_COLS, NUM_ENV = len(Col), len(Env)


@dataclass(frozen=True)
class Scene:
    """A batch of scenes.

    Attributes:
        surfaces: ``(B, NUM_ROWS, NUM_COLS)`` float32, see :class:`Col`.
        environment: ``(B, NUM_ENV)`` float32, see :class:`Env`.
    """

    surfaces: Tensor
    environment: Tensor

    @staticmethod
    def stack(surfaces: Sequence[np.ndarray], environments: Sequence[np.ndarray]) -> Scene:
        """Batch the tables of single scenes, ``(NUM_ROWS, NUM_COLS)`` and ``(NUM_ENV,)`` each."""
        return Scene(torch.from_numpy(np.stack(surfaces)), torch.from_numpy(np.stack(environments)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Scene:
        """Return the same scenes on ``device``."""
        return Scene(
            self.surfaces.to(device, non_blocking=non_blocking), self.environment.to(device, non_blocking=non_blocking)
        )

    def repeat_interleave(self, repeats: int) -> Scene:
        """Repeat every scene ``repeats`` times in place: one table a frame."""
        return Scene(self.surfaces.repeat_interleave(repeats, 0), self.environment.repeat_interleave(repeats, 0))
