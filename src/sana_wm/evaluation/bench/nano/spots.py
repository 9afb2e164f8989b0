"""Places in a Freedoom level that are worth starting from: indoors, lit, with something to see and room to move."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from sana_wm.evaluation.bench.nano.doom_walk import Spot, plan_of, walk
from sana_wm.worlds.doom.camera import UNITS_PER_METRE, choose_lens
from sana_wm.worlds.doom.captions import Sight, sight
from sana_wm.worlds.doom.engine import Engine, View
from sana_wm.worlds.doom.level import Floats, Level, cast

LENS_DEG = (65.0, 80.0)
PLACES_A_LEVEL, HEADINGS, OPEN_ENOUGH = 128, 24, 0.85
"""Random places of a level, directions looked at from each, and how open, beside the most open, one of them must be."""
PARTS, BLOCK = 4, 512.0
"""A level is shared out among as many scenes, in square blocks of so many map units: they begin in different halls."""
LOOK_WIDTH, LOOK_HEIGHT = 160, 96
"""Size at which a place is judged, whatever the size of the benchmark's images."""
SCALE_METRES = (2.5, 9.5)
NEAR_METRES, MOST_NEAR = 1.2, 0.02
LEAST_LIGHT, LEAST_CONTRAST = 52.0, 24.0
"""Mean and standard deviation of the first frame's pixels."""
LEAST_TEXTURES = 3
"""Different wall textures in the first frame."""
CLOSE_METRES, MOST_CLOSE, FAR_METRES, LEAST_FAR = 4.0, 0.2, 7.0, 0.35
"""Share of the first view's width that walls nearer than the first distance may fill, and that must reach beyond the
second: neither a wall nor a closet."""
MOST_SKY = 0.1
"""Share of the first view's floor that may lie under the open sky: the category is indoors."""


def good_spots(level: Level, name: str, part: int, rng: np.random.Generator) -> Iterator[tuple[Spot, float]]:
    """Places of one of the parts of a level whose first view shows something, with their scene scale."""
    engine_seed = int(rng.integers(2**31 - 1))
    places, lenses = level.places(rng, PLACES_A_LEVEL), rng.uniform(*LENS_DEG, PLACES_A_LEVEL)
    turns = rng.uniform(0, 2 * math.pi, PLACES_A_LEVEL)
    lens = choose_lens(LOOK_WIDTH, LOOK_HEIGHT)
    look = Engine(name, lens, seed=engine_seed, depth=True)
    try:
        for place, view_deg, turn in zip(places, lenses.tolist(), turns.tolist(), strict=False):
            if _part(place) != part % PARTS or level.sky[level.sector_at(place[None])[0]]:
                continue
            heading = _open_heading(level, place, turn)
            seen = sight(level, place, heading, math.radians(view_deg) / 2)
            if seen.sky_share > MOST_SKY or len(set(seen.walls)) < LEAST_TEXTURES or not _roomy(seen):
                continue
            spot = Spot(name, engine_seed, (float(place[0]), float(place[1])), heading, view_deg)
            view = next(walk(look, spot, plan_of(torch.eye(4)[None], spot)), None)
            if view is not None and (scale := _scale(view)) is not None:
                exact = (float(view.place[0]), float(view.place[1]))
                yield replace(spot, place=exact, heading=view.heading), scale
    finally:
        look.close()


def _part(place: Floats) -> int:
    """Which part of a level a place belongs to; neighbouring blocks belong to different ones."""
    column, row = np.floor(place / BLOCK).astype(int)
    return int(column + 2 * row) % PARTS


def _open_heading(level: Level, place: Floats, turn: float) -> float:
    """The first direction with room in a cone around it, of directions all around from `turn` on."""
    angles = np.asarray(turn + np.arange(HEADINGS) * (2 * math.pi / HEADINGS), dtype=np.float64)
    room, _ = cast(place, angles, level.plan.ends[level.near(place, 512.0, level.solid)], 512.0)
    cone = np.stack([np.roll(room, shift) for shift in (-2, -1, 0, 1, 2)]).sum(axis=0)
    return float(angles[int(np.argmax(cone >= OPEN_ENOUGH * cone.max()))])


def _roomy(seen: Sight) -> bool:
    metres = seen.distance / UNITS_PER_METRE
    return bool((metres < CLOSE_METRES).mean() <= MOST_CLOSE and (metres > FAR_METRES).mean() >= LEAST_FAR)


def _scale(view: View) -> float | None:
    """Median depth of a first view in metres; None if the view is no good."""
    assert view.depth is not None
    solid = view.depth[np.isfinite(view.depth)]
    if len(solid) == 0 or float((view.depth < NEAR_METRES).mean()) > MOST_NEAR:
        return None
    scale = float(np.median(solid))
    if not SCALE_METRES[0] <= scale <= SCALE_METRES[1]:
        return None
    if float(view.frame.mean()) < LEAST_LIGHT or float(view.frame.mean(axis=0).std()) < LEAST_CONTRAST:
        return None
    return scale
