"""What a benchmark lists: its scene set, and for a split the manifest and the trajectories of the same scenes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.files import KEPT_SCENES, MANIFEST, SPLITS, TRAJECTORIES, parse_json, read_text

_ID = re.compile(r"([A-Za-z0-9_\-]+)_\d{3}")


@dataclass(frozen=True)
class Listing:
    """Ids in the order of the scene set, and by id the manifest's row and the trajectory file's entry."""

    scene_ids: list[str]
    rows: dict[str, dict[str, Any]]
    paths: dict[str, dict[str, Any]]


def read_listing(root: Path, split: str) -> Listing:
    """Everything listed for a split.

    Raises :class:`InputError` if a list is missing or wrong, if the manifest does not name exactly the scenes of the
    scene set, or if the trajectory file lacks one of them. That file may know scenes that were not kept.
    """
    folder = root / SPLITS[split]
    if not folder.is_dir():
        raise InputError(f"'{root}' holds no folder {SPLITS[split]}; give the root of a benchmark with that split.")
    kept = _kept_scenes(root / KEPT_SCENES)
    manifest, trajectories = folder / MANIFEST, folder / TRAJECTORIES
    rows = _by_id(_manifest_rows(manifest), "id", manifest)
    paths = _by_id(_trajectories(trajectories), "scene_id", trajectories)
    for found, path in ((rows, manifest), (paths, trajectories)):
        missing = [scene for scene in kept if scene not in found]
        if missing:
            raise InputError(f"'{path}' lacks the scene {missing[0]}, which {KEPT_SCENES} names.")
    extra = [scene for scene in rows if scene not in kept]
    if extra:
        raise InputError(f"'{manifest}' holds the scene {extra[0]}, which {KEPT_SCENES} does not name.")
    return Listing(kept, rows, paths)


def category_of(scene_id: str) -> str:
    """The category in an id of the scene set: all but its last `_nnn`."""
    match = _ID.fullmatch(scene_id)
    assert match is not None  # checked when the scene set was read
    return match[1]


def choose(kept: Sequence[str], scenes: Sequence[str] | int | None, path: Path) -> list[str]:
    """Some of the ids `kept` in `path`: those named, or a number taken from all categories in turn; all for None."""
    if scenes is None:
        return list(kept)
    if isinstance(scenes, int):
        if not 1 <= scenes <= len(kept):
            raise InputError(f"{scenes} scenes are asked for; '{path}' names 1 to {len(kept)}.")
        seen: dict[str, int] = {}
        turns = []
        for scene in kept:
            turns.append(seen.setdefault(category_of(scene), 0))
            seen[category_of(scene)] += 1
        first = sorted(range(len(kept)), key=lambda i: (turns[i], i))[:scenes]
        return [kept[i] for i in sorted(first)]
    unknown = [scene for scene in scenes if scene not in kept]
    if unknown or not scenes:
        asked = f"the scene {unknown[0]!r} is" if unknown else "no scene is"
        raise InputError(f"{asked} asked for; '{path}' names {', '.join(kept[:3])} and so on to {kept[-1]}.")
    return [scene for scene in kept if scene in scenes]


def _kept_scenes(path: Path) -> list[str]:
    ids = [line.strip() for line in read_text(path, "scene set").splitlines() if line.strip()]
    if not ids:
        raise InputError(f"scene set '{path}' names no scene; it must hold one id a line.")
    for number, scene in enumerate(ids):
        if not _ID.fullmatch(scene):
            raise InputError(f"scene set '{path}' names {scene!r}; an id must be a category, '_' and three digits.")
        if scene in ids[:number]:
            raise InputError(f"scene set '{path}' names {scene} twice; every id must be there once.")
    return ids


def _manifest_rows(path: Path) -> list[Any]:
    lines = enumerate(read_text(path, "manifest").splitlines(), start=1)
    return [parse_json(line, f"line {number} of manifest '{path}'") for number, line in lines if line.strip()]


def _trajectories(path: Path) -> list[Any]:
    value = parse_json(read_text(path, "trajectory file"), f"trajectory file '{path}'")
    if not isinstance(value, dict) or not isinstance(value.get("scenes"), list):
        raise InputError(f"trajectory file '{path}' is no object with a list 'scenes'.")
    return list(value["scenes"])


def _by_id(entries: Sequence[Any], key: str, path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
            raise InputError(f"entry {number} of '{path}' is no object with a text '{key}'.")
        if entry[key] in found:
            raise InputError(f"'{path}' holds the scene {entry[key]} twice; every id must be there once.")
        found[entry[key]] = entry
    return found
