"""Clips of a player walking through Freedoom levels, with the engine's own camera."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import torch

from sana_wm.errors import InputError
from sana_wm.worlds.clip import WorldClip
from sana_wm.worlds.doom.camera import UNITS_PER_METRE, choose_lens
from sana_wm.worlds.doom.captions import caption, sight
from sana_wm.worlds.doom.engine import Engine, EngineStopped, View, wad_path
from sana_wm.worlds.doom.level import Floats, Level, cast
from sana_wm.worlds.doom.wad import read_map
from sana_wm.worlds.doom.wander import Wanderer
from sana_wm.worlds.doom_maps import DOOM_MAPS, wad_name

logger = logging.getLogger(__name__)

_TRIES_PER_LEVEL = 8
_MAX_TRIES = 400
_MAX_CRASHES = 3
_WARM_UP_FRAMES = 5
_MAX_STEP_METRES, _MAX_TURN_DEG = 0.3, 3.0
_MIN_SIGHT = 3.0 * UNITS_PER_METRE
_MIN_LIGHT, _MIN_CONTRAST = 28.0, 12.0
_MIN_METRES_PER_FRAME, _MIN_DEG_PER_FRAME = 0.01, 0.15  # a clip slower than both is a still picture


class DoomWorld:
    """A source of clips from one split of the Freedoom levels.

    Use it as a context manager or call :meth:`close`. Equal arguments and equal generators give equal clips in the same
    order.

    Args:
        height, width: size of the frames; the default 192x320 is the average of 2x2 screen pixels.
        split: ``train``, ``validation`` or ``test``; the splits share no level.
        seed: seed of the engine (flickering lights and the like).
        horizontal_fov_deg: range from which every clip draws its horizontal field of view.
        clips_per_level: clips taken before another level is drawn.

    Raises:
        InputError: vizdoom is missing, the engine does not start, or an argument is out of range.
    """

    def __init__(
        self,
        height: int = 192,
        width: int = 320,
        *,
        split: str = "train",
        seed: int = 0,
        horizontal_fov_deg: tuple[float, float] = (65.0, 85.0),
        clips_per_level: int = 12,
    ) -> None:
        if split not in DOOM_MAPS:
            raise InputError(f"split is {split!r}; it must be one of {', '.join(DOOM_MAPS)}.")
        low, high = horizontal_fov_deg
        if not 30 <= low <= high <= 100:
            raise InputError(
                f"horizontal_fov_deg is {horizontal_fov_deg}; it must be a range within 30 to 100 degrees."
            )
        if clips_per_level < 1:
            raise InputError(f"clips_per_level is {clips_per_level}; it must be at least 1.")
        self.split, self.seed = split, seed
        self.lens = choose_lens(width, height)
        self._fov_deg = (low, high)
        self._clips_per_level = clips_per_level
        # One engine a WAD file: going from one file to the other would mean a new start, a third of a second.
        self._engines: dict[str, Engine] = {}
        self._name = ""
        self._levels: dict[str, Level] = {}
        self._places: Floats = np.zeros((0, 2))
        self._clips_left = 0
        self._made = 0

    def __enter__(self) -> DoomWorld:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the game process; the next clip would start a new one."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._clips_left = 0

    def clip(self, num_frames: int, rng: np.random.Generator, with_depth: bool = False) -> WorldClip:
        """Return a clip of ``num_frames`` frames that starts at a random place.

        Clips in which the level ends, the player falls or is teleported, or nothing but a near or dark wall is to be
        seen are thrown away. Depth comes from the engine's 8-bit buffer, in steps of 0.2 to 0.35 m (the narrower the
        view, the coarser); the sky and what is farther than 48 m is ``inf``.

        Raises:
            InputError: ``num_frames`` is not positive, or the engine does not start.
            RuntimeError: the engine crashed three times or no level gave a clip.
        """
        if num_frames < 1:
            raise InputError(f"num_frames is {num_frames}; it must be at least 1.")
        crashes = 0
        for attempt in range(_MAX_TRIES):
            if self._clips_left <= 0 or attempt % _TRIES_PER_LEVEL == _TRIES_PER_LEVEL - 1:
                self._change_level(rng)
            try:
                clip = self._try_clip(num_frames, rng, with_depth)
            except EngineStopped as error:
                crashes += 1
                logger.warning("the Doom engine stopped (%s); it is started again", error)
                self.close()
                if crashes >= _MAX_CRASHES:
                    raise RuntimeError(f"the Doom engine stopped {crashes} times in one clip: {error}") from error
                continue
            if clip is not None:
                self._clips_left -= 1
                self._made += 1
                return clip
        raise RuntimeError(f"no clip of {num_frames} frames came out of {_MAX_TRIES} tries in split {self.split!r}")

    def _change_level(self, rng: np.random.Generator) -> None:
        name = str(rng.choice(DOOM_MAPS[self.split]))
        if name not in self._levels:
            self._levels[name] = Level(read_map(wad_path(name), name))
        self._name = name
        self._places = self._levels[name].places(rng, 32)
        self._clips_left = self._clips_per_level

    def _running(self, depth: bool) -> Engine:
        """The engine on the present level; started where it does not run yet or must begin to draw depth."""
        file = wad_name(self._name)
        engine = self._engines.get(file)
        if engine is not None and engine.depth != depth:
            engine.close()
            engine = None
        if engine is None:
            engine = self._engines[file] = Engine(self._name, self.lens, seed=self.seed, depth=depth)
        elif engine.level != self._name:
            engine.load(self._name)
        return engine

    def _try_clip(self, num_frames: int, rng: np.random.Generator, with_depth: bool) -> WorldClip | None:
        """One attempt; None where the clip is not worth keeping."""
        level = self._levels[self._name]
        if len(self._places) == 0:
            return None
        engine = self._running(with_depth)
        place = self._places[rng.integers(len(self._places))]
        fov_deg = float(rng.uniform(*self._fov_deg))
        heading = _open_heading(level, place, rng)
        if _mean_sight(level, place, heading, fov_deg) < _MIN_SIGHT:
            return None
        if not engine.place(place, heading, self.lens.game_fov(fov_deg)):
            return None
        walker = Wanderer(level, place, rng)
        views: list[View] = []
        for i in range(_WARM_UP_FRAMES + num_frames):
            view = engine.view(picture=i >= _WARM_UP_FRAMES)
            if view is None:
                return None
            if i >= _WARM_UP_FRAMES:
                if _is_dull(view) if not views else _jumps(views[-1], view):
                    return None
                views.append(view)
            engine.move(walker.step(view.place, view.heading))
        return self._finish(level, engine.level, views, fov_deg, rng)

    def _finish(
        self, level: Level, name: str, views: list[View], fov_deg: float, rng: np.random.Generator
    ) -> WorldClip | None:
        if len(views) > 1 and _is_still(views):
            return None
        keys = [views[0], views[len(views) // 2], views[-1]]
        pixels = np.stack([view.frame[:, ::2, ::2] for view in keys])
        if any(_is_dull(view) for view in keys):
            return None
        distances, walls, floors, sky = [], [], [], []
        for view in keys:
            seen = sight(level, view.place, view.heading, math.radians(fov_deg) / 2)
            distances.append(float(seen.distance.mean()))
            walls += seen.walls
            floors += seen.floors
            sky.append(seen.sky_share)
        if min(distances) < _MIN_SIGHT * 0.75:
            return None
        depth = None
        if all(view.depth is not None for view in views):
            depth = torch.from_numpy(np.stack([view.depth for view in views if view.depth is not None]))
        return WorldClip(
            frames=torch.from_numpy(np.stack([view.frame for view in views])),
            c2w=torch.from_numpy(np.stack([view.c2w for view in views])),
            intrinsics=torch.tensor([self.lens.intrinsics(view.game_fov) for view in views], dtype=torch.float32),
            caption=caption(pixels, walls, floors, float(np.mean(distances)), float(np.mean(sky)), rng),
            depth=depth,
            name=f"doom/{self.split}/{name}/{self._made:06d}",
        )


def _open_heading(level: Level, place: Floats, rng: np.random.Generator) -> float:
    """A random direction, the likelier the farther one can walk that way."""
    angles = rng.uniform(0, 2 * math.pi, 16)
    room, _ = cast(place, angles, level.plan.ends[level.near(place, 512.0, level.solid)], 512.0)
    return float(rng.choice(angles, p=room / room.sum()))


def _mean_sight(level: Level, place: Floats, heading: float, fov_deg: float) -> float:
    """Mean distance of the walls in view, map units."""
    angles = heading + np.radians(np.linspace(-fov_deg / 2, fov_deg / 2, 16))
    return float(cast(place, angles, level.plan.ends[level.near(place, 1024.0, level.opaque(place))], 1024.0)[0].mean())


def _jumps(before: View, after: View) -> bool:
    step = float(np.linalg.norm(after.c2w[:3, 3] - before.c2w[:3, 3]))
    turn = abs((math.degrees(after.heading - before.heading) + 180) % 360 - 180)
    return step > _MAX_STEP_METRES or turn > _MAX_TURN_DEG or abs(after.game_fov - before.game_fov) > 1e-6


def _is_dull(view: View) -> bool:
    """Nothing but darkness or one flat surface."""
    pixels = view.frame[:, ::4, ::4]
    return float(pixels.mean()) < _MIN_LIGHT or float(pixels.std()) < _MIN_CONTRAST


def _is_still(views: list[View]) -> bool:
    centres = np.stack([view.c2w[:3, 3] for view in views])
    headings = np.unwrap([view.heading for view in views])
    metres = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).mean())
    return metres < _MIN_METRES_PER_FRAME and float(np.degrees(np.abs(np.diff(headings))).mean()) < _MIN_DEG_PER_FRAME


def stream_clips(split: str, seed: int, num_frames: int, height: int, width: int) -> Iterator[WorldClip]:
    """Yield clips of ``split`` without end, the same for the same arguments; closing the iterator closes the engine."""
    rng = np.random.default_rng(seed)
    with DoomWorld(height, width, split=split, seed=int(rng.integers(2**31 - 1))) as world:
        while True:
            yield world.clip(num_frames, rng)
