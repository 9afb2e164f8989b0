"""Makes a benchmark of our own in exactly the published layout, from seeds (spec 61-benchmark.md sections 1.1, 1.2)."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.files import SPLITS, parse_json, read_text, split_name
from sana_wm.evaluation.bench.nano.courses import Course
from sana_wm.evaluation.bench.nano.deal import LEVEL_HARD, TRIES, Dealt, deal, first_index
from sana_wm.evaluation.bench.nano.find_drawn import find_drawn_scene
from sana_wm.evaluation.bench.nano.find_walked import find_walked_scene
from sana_wm.evaluation.bench.nano.origin import MadeScene
from sana_wm.evaluation.bench.nano.templates import BY_NAME, SIMPLE_TEMPLATES
from sana_wm.evaluation.bench.nano.write import FPS, is_finished, publish, write_scene
from sana_wm.evaluation.held_out import FREEDOOM, PROCEDURAL
from sana_wm.geometry.poses import snap_num_frames
from sana_wm.worlds.doom.engine import import_vizdoom
from sana_wm.worlds.doom_maps import DOOM_MAPS
from sana_wm.worlds.splits import split_seed

logger = logging.getLogger(__name__)

SETTINGS = "nano_bench.json"
UNFINISHED = "unfinished"
"""Scenes that are done while others are not: a folder each, which exists whole or not at all."""
LEAST_SECONDS, MOST_SECONDS = 1.0, 600.0


@dataclass(frozen=True)
class BenchSettings:
    """What a benchmark is made from. Equal settings make equal files."""

    scenes: int
    num_frames: int
    size: tuple[int, int]
    seed: int
    splits: tuple[str, ...]
    worlds: tuple[str, ...]


def make_nano_bench(
    root: Path,
    *,
    scenes: int = 80,
    seconds: float = 60.0,
    size: tuple[int, int] = (192, 320),
    seed: int = 0,
    splits: Sequence[str] = ("simple", "hard"),
    worlds: Sequence[str] = (PROCEDURAL, FREEDOOM),
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a benchmark to `root`; go on with one that was interrupted, and leave a finished one alone.

    Args:
        scenes: 1 to 80, spread evenly over the categories of the worlds; each is in every split.
        seconds: of a video at 16 fps; the number of frames becomes 8 k + 1.
        size: height and width of the images. seed: 0 to 99; the scenes of two seeds have nothing in common.
        workers: processes that make scenes; 0 makes them in this one. The benchmark is the same.
        progress: called with the number of scenes done so far.

    Raises:
        InputError: an argument is out of range, vizdoom is missing, or `root` holds something else.
    """
    root = Path(root)
    settings = _settings(scenes, seconds, size, seed, splits, worlds)
    dealt = deal(settings.scenes, settings.worlds)
    if FREEDOOM in settings.worlds and not is_finished(root):
        import_vizdoom()  # refuses at once, not after all the procedural scenes
    _claim(root, settings)
    if is_finished(root):
        shutil.rmtree(root / UNFINISHED, ignore_errors=True)
        if progress is not None:
            progress(len(dealt))
        return
    parts = root / UNFINISHED
    parts.mkdir(exist_ok=True)
    missing = [one for one in dealt if not (parts / one.scene_id).is_dir()]
    done = len(dealt) - len(missing)
    with _made(missing, settings, parts, workers) as scenes_made:
        for scene_id in scenes_made:
            done += 1
            logger.info("made %s, %d of %d", scene_id, done, len(dealt))
            if progress is not None:
                progress(done)
    publish(root, parts, [one.scene_id for one in dealt], settings.splits)
    shutil.rmtree(parts)


def make_scene(dealt: Dealt, settings: BenchSettings) -> MadeScene:
    """One scene of a benchmark. It does not depend on the number of scenes or on the splits that are written."""
    rng = np.random.default_rng([settings.seed, *dealt.scene_id.encode()])
    if dealt.category.world == FREEDOOM:
        levels = DOOM_MAPS["test"]
        first = (dealt.number + settings.seed) % len(levels)
        stand_ins = {"simple": tuple(t.name for t in SIMPLE_TEMPLATES), "hard": LEVEL_HARD}
        templates = {
            split: (name, *(n for n in stand_ins[split] if n != name)) for split, name in dealt.templates.items()
        }
        levels = levels[first:] + levels[:first]
        part = dealt.number // len(levels)
        name = dealt.scene_id
        return find_walked_scene(levels, templates, settings.num_frames, FPS, settings.size, name, part, rng)
    courses = {
        split: Course(name, mirrored=not BY_NAME[name].sided and bool(rng.random() < 0.5))
        for split, name in dealt.templates.items()
    }
    index = first_index(dealt, settings.seed)
    seeds = (split_seed("test", index + k) for k in range(TRIES))
    themes = dealt.category.themes
    return find_drawn_scene(seeds, themes, courses, settings.num_frames, FPS, settings.size, dealt.scene_id)


def _settings(
    scenes: int,
    seconds: float,
    size: tuple[int, int],
    seed: int,
    splits: Sequence[str],
    worlds: Sequence[str],
) -> BenchSettings:
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise InputError(f"seconds is {seconds}; it must lie between {LEAST_SECONDS:g} and {MOST_SECONDS:g}.")
    if len(size) != 2 or min(size) < 16:
        raise InputError(f"size is {tuple(size)}; it must be a height and a width of at least 16 pixels.")
    names = [split_name(split) for split in splits]
    if not names:
        raise InputError(f"splits is empty; it must name {' or '.join(SPLITS)}.")
    num_frames = snap_num_frames(round(FPS * seconds) + 1, None)
    ordered = tuple(name for name in SPLITS if name in names), tuple(w for w in (PROCEDURAL, FREEDOOM) if w in worlds)
    for one in deal(scenes, worlds):
        if one.category.world == PROCEDURAL:
            first_index(one, seed)  # refuses a seed without scenes of its own
    return BenchSettings(scenes, num_frames, (size[0], size[1]), seed, *ordered)


def _claim(root: Path, settings: BenchSettings) -> None:
    """Record the settings in a new folder; refuse one that holds something else."""
    path = root / SETTINGS
    wanted: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    if path.is_file():
        found = parse_json(read_text(path, "settings file"), f"settings file '{path}'")
        if found != wanted:
            other = found if isinstance(found, dict) else {}
            name = next(key for key in [*wanted, *other] if wanted.get(key) != other.get(key))
            raise InputError(
                f"'{root}' holds a benchmark made with {name} = {other.get(name)}, not {wanted.get(name)}; choose "
                "another folder, or delete it."
            )
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"'{root}' holds files, but no benchmark made here; choose a new or empty folder.")
    root.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


@contextmanager
def _made(missing: Sequence[Dealt], settings: BenchSettings, parts: Path, workers: int) -> Iterator[Iterator[str]]:
    """Ids of the missing scenes as they are written."""
    if not workers or not missing:
        yield (_make_one(one, settings, parts) for one in missing)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(_make_one, one, settings, parts) for one in missing]
        try:
            yield (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _make_one(dealt: Dealt, settings: BenchSettings, parts: Path) -> str:
    made = make_scene(dealt, settings)
    write_scene(parts / dealt.scene_id, dealt, made, settings.splits)
    return dealt.scene_id
