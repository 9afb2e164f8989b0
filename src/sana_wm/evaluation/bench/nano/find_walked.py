"""Looks for a place in the Freedoom levels where both splits' templates can be walked."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.nano.courses import Course, fitted, paced
from sana_wm.evaluation.bench.nano.doom_walk import Spot, plan_of, walk, wall_points
from sana_wm.evaluation.bench.nano.origin import MadePath, MadeScene, WalkedOrigin
from sana_wm.evaluation.bench.nano.spots import PARTS, good_spots
from sana_wm.evaluation.trajectory import FittedPath, clearances
from sana_wm.geometry.poses import relative_to_first
from sana_wm.worlds.doom.camera import UNITS_PER_METRE, choose_lens
from sana_wm.worlds.doom.captions import caption, sight
from sana_wm.worlds.doom.engine import Engine, View, import_vizdoom, wad_path
from sana_wm.worlds.doom.level import PLAYER_RADIUS, Level
from sana_wm.worlds.doom.wad import read_map

CLEARANCE = 0.15
BODY_METRES = (math.sqrt(2) * PLAYER_RADIUS + 3) / UNITS_PER_METRE
"""Least distance of a walk from a wall: half the diagonal of the square that a player takes, and room to err."""
WALLS_WITHIN = 3.0
"""Scene scales around the start within which walls are looked at; no path goes half as far."""
QUICK_POSES = 121
LEAST_SIZE = 0.5
"""Share of its amplitude that a walk may at most lose to keep clear."""
MOST_ASTRAY_METRES, MOST_ASTRAY_DEG, MOST_STEP_UP = 0.15, 1.0, 0.08
"""Departure from the plan that says that the player was held up, and rise or fall in one frame that is a jolt."""


@dataclass(frozen=True)
class _Walk:
    """A course that was walked: what the engine measured, (F,4,4) float32, and its first, middle and last view."""

    course: Course
    clearance: float
    c2w: Tensor
    views: list[View]


def find_walked_scene(
    levels: Sequence[str],
    templates: Mapping[str, Sequence[str]],
    num_frames: int,
    fps: float,
    size: tuple[int, int],
    name: str,
    part: int,
    rng: np.random.Generator,
) -> MadeScene:
    """The first good place of `levels` where a template of each split can be walked, rather the one wanted.

    Args:
        templates: by split, the one wanted, and after it those that may stand in for it where no place of any level
            has room. size: height and width of the image. name: from which the wording of the prompts is drawn.
        part: of each level, in which to look first (:data:`sana_wm.evaluation.bench.nano.spots.PARTS`).

    Raises:
        InputError: vizdoom is missing or does not start.
        RuntimeError: no place in any level will do.
    """
    start = rng.bit_generator.state
    tries = 0
    for wanted in _in_turn(templates):
        rng.bit_generator.state = start  # the same places again
        courses = {split: paced(Course(template, level=True), num_frames, fps) for split, template in wanted.items()}
        for level_name, quarter in [(level_name, part + k) for k in range(PARTS) for level_name in levels]:
            level = Level(read_map(wad_path(level_name), level_name))
            for spot, scale in good_spots(level, level_name, quarter, rng):
                tries += 1
                walks = _walk_all(level, spot, scale, courses, num_frames, fps, size)
                if walks is not None:
                    dealt = {split: some[0] for split, some in templates.items()}
                    return _finish(level, spot, scale, walks, dealt, tries, size, name)
    raise RuntimeError(f"none of {tries} places in {', '.join(levels)} has room for the walks of {name}")


def _in_turn(templates: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """The templates wanted, then with a stand-in for each split's in turn."""
    wanted = {split: some[0] for split, some in templates.items()}
    yield wanted
    for split, some in reversed(list(templates.items())):
        for other in some[1:]:
            yield {**wanted, split: other}


def _walk_all(
    level: Level,
    spot: Spot,
    scale: float,
    courses: Mapping[str, Course],
    num_frames: int,
    fps: float,
    size: tuple[int, int],
) -> dict[str, _Walk] | None:
    """The walks of all splits from one place; None if one has no room or is held up."""
    fits = {}
    for split, course in courses.items():
        fit = _fit(level, spot, scale, course, num_frames, fps)
        if fit is None:
            return None
        fits[split] = fit
    walks = {}
    for split, (course, path) in fits.items():
        done = _walk(spot, course, path, size)
        if done is None:
            return None
        walks[split] = done
    return walks


def _fit(
    level: Level, spot: Spot, scale: float, course: Course, num_frames: int, fps: float
) -> tuple[Course, FittedPath] | None:
    """The course or its mirror image, whichever has more room; None if neither has enough."""
    points = wall_points(level, spot, WALLS_WITHIN * scale)
    clearance = max(CLEARANCE, BODY_METRES / scale)
    found = []
    for mirrored in (False,) if course.shape.sided else (False, True):
        way = replace(course, mirrored=mirrored)
        smallest = replace(way, amplitude=LEAST_SIZE * way.amplitude).path(QUICK_POSES, scale)
        if float(clearances(smallest, points).min()) < clearance * scale:
            continue  # most places fall here, long before all sizes are tried at full length
        try:
            fit, path = fitted(way, num_frames, fps, scale, points, clearance)
            found.append((fit, replace(path, clearance=min(path.clearance, WALLS_WITHIN * scale))))
        except InputError:
            continue  # no room this way round, which is what is being asked
    best = max(found, key=lambda pair: pair[0].amplitude, default=None)
    return best if best is not None and best[0].amplitude >= LEAST_SIZE * course.amplitude else None


def _walk(spot: Spot, course: Course, path: FittedPath, size: tuple[int, int]) -> _Walk | None:
    """The walk along a path; None where the player is held up, falls or climbs abruptly."""
    plan = plan_of(path.c2w, spot)
    shown = (0, len(plan) // 2, len(plan) - 1)
    engine = Engine(spot.level, choose_lens(size[1], size[0]), seed=spot.engine_seed)
    c2w: list[np.ndarray] = []
    views: list[View] = []
    try:
        for frame, view in enumerate(walk(engine, spot, plan, shown)):
            astray = float(np.hypot(*(view.place - plan[frame, :2]))) / UNITS_PER_METRE
            turned = abs((math.degrees(view.heading - plan[frame, 2]) + 180) % 360 - 180)
            jolt = abs(float(view.c2w[1, 3] - c2w[-1][1, 3])) if c2w else 0.0
            if astray > MOST_ASTRAY_METRES or turned > MOST_ASTRAY_DEG or jolt > MOST_STEP_UP:
                return None
            c2w.append(view.c2w)
            if frame in shown:
                views.append(view)
    finally:
        engine.close()
    return _Walk(course, path.clearance, torch.from_numpy(np.stack(c2w)), views) if len(c2w) == len(plan) else None


def _finish(
    level: Level,
    spot: Spot,
    scale: float,
    walks: Mapping[str, _Walk],
    dealt: Mapping[str, str],
    tries: int,
    size: tuple[int, int],
    name: str,
) -> MadeScene:
    engine = str(import_vizdoom().__version__)
    made = {}
    for split, done in walks.items():
        c2w = relative_to_first(done.c2w.double()).float().double()  # as it is written
        origin = WalkedOrigin("freedoom", spot, done.course, scale, done.clearance, dealt[split], tries, engine)
        made[split] = MadePath(c2w, _caption(level, spot, done.views, f"{name} {split}"), origin)
    first = next(iter(walks.values())).views[0]
    intrinsics = torch.tensor(choose_lens(size[1], size[0]).intrinsics(first.game_fov), dtype=torch.float32)
    return MadeScene(torch.from_numpy(first.frame), intrinsics, made)


def _caption(level: Level, spot: Spot, views: Sequence[View], name: str) -> str:
    half = math.radians(spot.lens) / 2
    seen = [sight(level, view.place, view.heading, half) for view in views]
    return caption(
        np.stack([view.frame[:, ::2, ::2] for view in views]),
        [wall for one in seen for wall in one.walls],
        [floor for one in seen for floor in one.floors],
        float(np.mean([one.distance.mean() for one in seen])),
        float(np.mean([one.sky_share for one in seen])),
        np.random.default_rng(zlib.crc32(name.encode())),
    )
