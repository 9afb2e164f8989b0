"""Reading a benchmark in the published layout: scenes with an image, a prompt, a camera path and revisit pairs.

Spec 61-benchmark.md sections 1.1 and 7. What is read is checked; a message names the file and the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.files import KEPT_SCENES, MANIFEST, SPLITS, TRAJECTORIES, inside, split_name
from sana_wm.evaluation.bench.listing import category_of, choose, read_listing
from sana_wm.evaluation.revisit import RevisitPair
from sana_wm.geometry.array_files import read_arrays
from sana_wm.geometry.intrinsics import as_vec4, check_fov
from sana_wm.geometry.poses import check_poses

__all__ = ["SPLITS", "BenchScene", "check_published", "read_benchmark"]

PUBLISHED_SCENES, PUBLISHED_CATEGORIES, PUBLISHED_FRAMES, PUBLISHED_FPS = 80, 4, 961, 16.0


@dataclass(frozen=True)
class BenchScene:
    """One scene of one split.

    Attributes:
        scene_id: `<category>_<nnn>`. split: "simple" or "hard".
        image_path: the first frame. prompt: what it shows.
        c2w: (F,4,4) float64, OpenCV axes. intrinsics: (F,4) float64 fx, fy, cx, cy in pixels of the image.
        pairs: frames that see the same place, counted at `fps`; never frame 0.
    """

    scene_id: str
    category: str
    split: str
    trajectory_id: str
    image_path: Path
    prompt: str
    c2w: Tensor
    intrinsics: Tensor
    fps: float
    pairs: list[RevisitPair]


def read_benchmark(root: Path, split: str, scenes: Sequence[str] | int | None = None) -> list[BenchScene]:
    """Scenes of one split in the order of the scene set.

    Args:
        root: the folder that holds `images`, `scene_set` and the folders of the splits.
        split: `simple` or `hard`; `simple_60s` and `hard_60s` name the same.
        scenes: ids of the scenes to read, or how many, taken from all categories in turn; all by default. Images and
            camera paths of other scenes need not be there.

    Raises:
        InputError: a file is missing or wrong; the manifest does not hold the scenes of the scene set, or the
            trajectory file lacks one; poses are not rigid; the scenes are not equally long; a pair lies outside the
            path.
    """
    root, name = Path(root), split_name(split)
    listing = read_listing(root, name)
    chosen = choose(listing.scene_ids, scenes, root / KEPT_SCENES)
    read = [_scene(root, name, listing.rows[scene], listing.paths[scene]) for scene in chosen]
    for scene in read[1:]:
        if (len(scene.c2w), scene.fps) != (len(read[0].c2w), read[0].fps):
            raise InputError(
                f"scene {scene.scene_id} of '{root / SPLITS[name]}' has {len(scene.c2w)} poses at {scene.fps:g} fps, "
                f"but {read[0].scene_id} has {len(read[0].c2w)} at {read[0].fps:g}; all scenes must be equally long."
            )
    return read


def check_published(scenes: Sequence[BenchScene]) -> None:
    """Refuse scenes that are not a whole published split: 80 ids, 20 in each of 4 categories, 961 poses at 16 fps."""
    counts: dict[str, int] = {}
    for scene in scenes:
        counts[scene.category] = counts.get(scene.category, 0) + 1
    each = PUBLISHED_SCENES // PUBLISHED_CATEGORIES
    if len(counts) != PUBLISHED_CATEGORIES or set(counts.values()) != {each}:
        raise InputError(
            f"the benchmark holds {len(scenes)} scenes, by category {counts}; the published one has "
            f"{PUBLISHED_SCENES}, {each} in each of {PUBLISHED_CATEGORIES} categories."
        )
    for scene in scenes:
        if (len(scene.c2w), scene.fps) != (PUBLISHED_FRAMES, PUBLISHED_FPS):
            raise InputError(
                f"scene {scene.scene_id} has {len(scene.c2w)} poses at {scene.fps:g} fps; the published one has "
                f"{PUBLISHED_FRAMES} at {PUBLISHED_FPS:g}."
            )


def _scene(root: Path, split: str, row: dict[str, Any], path: dict[str, Any]) -> BenchScene:
    scene = row["id"]
    where = f"scene {scene} of '{root / SPLITS[split] / MANIFEST}'"
    for key in ("prompt", "trajectory_id"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise InputError(f"{key} of {where} is {row.get(key)!r}; it must be a text that is not empty.")
    image = inside(root, row.get("image_path"), f"image_path of {where}")
    camera = inside(root, row.get("camera_path"), f"camera_path of {where}")
    c2w, intrinsics, fps = _camera(camera, scene, _image_size(image, scene))
    return BenchScene(
        scene_id=scene,
        category=category_of(scene),
        split=split,
        trajectory_id=row["trajectory_id"],
        image_path=image,
        prompt=row["prompt"],
        c2w=c2w,
        intrinsics=intrinsics,
        fps=fps,
        pairs=_pairs(path, len(c2w), f"of scene {scene} in '{root / SPLITS[split] / TRAJECTORIES}'"),
    )


def _image_size(path: Path, scene: str) -> tuple[int, int]:
    """Width and height."""
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"the image '{path}' of scene {scene} cannot be read: {error}.") from error


def _camera(path: Path, scene: str, wh: tuple[int, int]) -> tuple[Tensor, Tensor, float]:
    name = f"camera file '{path}' of scene {scene}"
    arrays = read_arrays(path, f"the camera file of scene {scene},", "c2w", ("intrinsics", "fps", "num_frames"))
    for key in ("intrinsics", "fps", "num_frames"):
        if key not in arrays:
            raise InputError(f"{name} holds no '{key}'; it must hold c2w, intrinsics, fps and num_frames.")
    check_poses(arrays["c2w"], f"c2w of {name}")
    c2w, matrices = torch.from_numpy(arrays["c2w"]), arrays["intrinsics"]
    if matrices.shape != (len(c2w), 3, 3):
        raise InputError(f"intrinsics of {name} has the shape {matrices.shape}; it must be ({len(c2w)}, 3, 3).")
    check_fov(as_vec4(matrices, len(c2w), f"intrinsics of {name}"), wh, f"intrinsics of {name}")
    fps, count = (float(arrays[key].item()) if arrays[key].size == 1 else float("nan") for key in ("fps", "num_frames"))
    if not 0 < fps < float("inf"):
        raise InputError(f"fps of {name} is {arrays['fps'].tolist()}; it must be one number above 0.")
    if count != len(c2w):
        raise InputError(f"num_frames of {name} is {arrays['num_frames'].tolist()}, but it holds {len(c2w)} poses.")
    return c2w, torch.from_numpy(matrices[:, (0, 1, 0, 1), (0, 1, 2, 2)]), fps


def _pairs(path: dict[str, Any], num_frames: int, where: str) -> list[RevisitPair]:
    entries = path.get("evaluation_pairs")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"evaluation_pairs {where} is no list of objects.")
    pairs = [RevisitPair.from_json(entry, f"revisit pair {i} {where}") for i, entry in enumerate(entries)]
    for number, pair in enumerate(pairs):
        if not (0 < pair.frame_a < num_frames and 0 < pair.frame_b < num_frames):
            raise InputError(
                f"revisit pair {number} {where} is frames {pair.frame_a} and {pair.frame_b}; both must lie between 1 "
                f"and {num_frames - 1}."
            )
    return pairs
