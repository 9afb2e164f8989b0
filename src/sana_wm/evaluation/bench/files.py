"""Names of the files of a benchmark (spec 61-benchmark.md section 1.1), and reading them with plain errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sana_wm.errors import InputError

SPLITS = {"simple": "benchmark_v2_smooth_60s", "hard": "benchmark_v2_hard_60s"}
"""Folder of each split."""
PUBLISHED_SPLITS = {"simple_60s": "simple", "hard_60s": "hard"}
"""The release's own names of the splits."""

KEPT_SCENES = Path("scene_set/kept_scenes.txt")
IMAGES, EXPORT = "images", "sanawm_export_v2"
MANIFEST, TRAJECTORIES = f"{EXPORT}/run_manifest.jsonl", "scene_trajectories_v2.json"
WORLDS = "worlds.json"
"""In the folder of a split: how to render its scenes' true videos. Only our own benchmark has it."""


def split_name(split: str) -> str:
    """`simple` or `hard`, given by this or the release's name; raises :class:`InputError` for another."""
    name = PUBLISHED_SPLITS.get(split, split)
    if name not in SPLITS:
        raise InputError(f"split is {split!r}; it must be one of {', '.join([*SPLITS, *PUBLISHED_SPLITS])}.")
    return name


def image_file(scene_id: str) -> str:
    """Path of the first frame within the benchmark."""
    return f"{IMAGES}/{scene_id}.png"


def camera_file(split: str, scene_id: str) -> str:
    """Path of the camera path within the benchmark."""
    return f"{SPLITS[split]}/{EXPORT}/{scene_id}.npz"


def read_text(path: Path, what: str) -> str:
    """Text of a file; raises :class:`InputError` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{what} '{path}' cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} '{path}' is no UTF-8 text.") from error


def parse_json(text: str, where: str) -> Any:
    """The JSON value of `text`; raises :class:`InputError` if it is none; `where` names its place."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{where} is no JSON: {error}.") from error


def inside(root: Path, relative: Any, where: str) -> Path:
    """Path of a file named by a manifest, which must lie within the benchmark; raises :class:`InputError` if not."""
    if not isinstance(relative, str) or not relative or Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise InputError(f"{where} is {relative!r}; it must be a path within the benchmark, relative to its root.")
    path = root / relative
    if not path.is_file():
        raise InputError(f"{where} is {relative!r}, but '{path}' is no file.")
    return path
