"""Writes a benchmark's files: each scene first for itself, then all of them in the published layout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sana_wm.evaluation.bench.files import (
    KEPT_SCENES,
    MANIFEST,
    SPLITS,
    TRAJECTORIES,
    WORLDS,
    camera_file,
    image_file,
    parse_json,
    read_text,
)
from sana_wm.evaluation.bench.nano.deal import Dealt
from sana_wm.evaluation.bench.nano.origin import MadePath, MadeScene, origin_to_dict
from sana_wm.evaluation.revisit import REFERENCE_FPS as FPS
from sana_wm.evaluation.revisit import find_pairs

_IMAGE, _RECORD = "image.png", "scene.json"


def is_finished(root: Path) -> bool:
    """Whether a benchmark is whole: the list of its scenes is written last."""
    return (root / KEPT_SCENES).is_file()


def write_scene(folder: Path, dealt: Dealt, made: MadeScene, splits: Sequence[str]) -> None:
    """Write one scene so that `folder` exists whole or not at all."""
    partial = folder.with_name(f".partial_{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    Image.fromarray(made.image.permute(1, 2, 0).numpy()).save(partial / _IMAGE)
    record: dict[str, Any] = {}
    for split in splits:
        path = made.paths[split]
        _write_camera(partial / f"{split}.npz", path.c2w, made.intrinsics)
        record[split] = _record(dealt, split, path)
    (partial / _RECORD).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    os.replace(partial, folder)


def _write_camera(path: Path, c2w: Tensor, intrinsics: Tensor) -> None:
    fx, fy, cx, cy = intrinsics.tolist()
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float32)
    np.savez_compressed(
        path,
        c2w=c2w.numpy().astype(np.float32),
        intrinsics=np.repeat(matrix[None], len(c2w), axis=0),
        fps=np.float64(FPS),
        num_frames=np.int64(len(c2w)),
    )


def _record(dealt: Dealt, split: str, path: MadePath) -> dict[str, Any]:
    """A scene's row of the manifest, its entry of the trajectory file and that of the world file."""
    scene, frames, template = dealt.scene_id, len(path.c2w), path.origin.course.template
    pairs = find_pairs(path.c2w, FPS)
    return {
        "manifest": {
            "id": scene,
            "image_path": image_file(scene),
            "camera_path": camera_file(split, scene),
            "prompt": path.prompt,
            "scene_type": dealt.category.name,
            "trajectory_id": template,
            "sanawm_frames": frames,
            "expected_fps": FPS,
            "expected_video_frames": frames - 1,
            "trim_to_frames": frames - 1,
        },
        "trajectory": {
            "scene_id": scene,
            "trajectory_id": template,
            "prompt": path.prompt,
            "evaluation_pairs": [vars(pair) for pair in pairs],
        },
        "world": origin_to_dict(path.origin),
    }


def publish(root: Path, parts: Path, scene_ids: Sequence[str], splits: Sequence[str]) -> None:
    """Bring scenes that were written for themselves into the published layout; may be interrupted and run again."""
    records = {
        scene: parse_json(read_text(parts / scene / _RECORD, "record"), f"record of scene {scene}")
        for scene in scene_ids
    }
    for scene in scene_ids:
        _copy(parts / scene / _IMAGE, root / image_file(scene))
    for split in splits:
        folder = root / SPLITS[split]
        for scene in scene_ids:
            _copy(parts / scene / f"{split}.npz", root / camera_file(split, scene))
        rows = [json.dumps(records[scene][split]["manifest"]) + "\n" for scene in scene_ids]
        _write(folder / MANIFEST, "".join(rows))
        paths = [records[scene][split]["trajectory"] for scene in scene_ids]
        _write(folder / TRAJECTORIES, json.dumps({"scenes": paths}, indent=1) + "\n")
        worlds = {scene: records[scene][split]["world"] for scene in scene_ids}
        _write(folder / WORLDS, json.dumps(worlds, indent=1) + "\n")
    _write(root / KEPT_SCENES, "".join(f"{scene}\n" for scene in scene_ids))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial_{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
