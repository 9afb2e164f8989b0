"""A small benchmark in the published layout, written by hand: what the reader must take and what it must refuse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sana_wm.evaluation.bench.dataset import SPLITS

FRAMES, WIDTH, HEIGHT = 100, 32, 18


def write_bench(
    root: Path, ids: Sequence[str], splits: Sequence[str] = ("simple", "hard"), frames: int = FRAMES
) -> None:
    """Scenes that go straight ahead, each with one revisit pair, in the release's layout."""
    (root / "images").mkdir(parents=True)
    (root / "scene_set").mkdir()
    (root / "scene_set" / "kept_scenes.txt").write_text("".join(f"{scene}\n" for scene in ids))
    for scene in ids:
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / "images" / f"{scene}.png")
    for split in splits:
        folder = root / SPLITS[split]
        (folder / "sanawm_export_v2").mkdir(parents=True)
        rows = []
        for scene in ids:
            write_camera(folder / "sanawm_export_v2" / f"{scene}.npz", frames)
            rows.append(
                {
                    "id": scene,
                    "image_path": f"images/{scene}.png",
                    "camera_path": f"{SPLITS[split]}/sanawm_export_v2/{scene}.npz",
                    "prompt": f"{scene} in {split}",
                    "scene_type": scene[:-4],
                    "trajectory_id": "forward",
                    "sanawm_frames": frames,
                    "expected_fps": 16.0,
                    "expected_video_frames": frames - 1,
                    "trim_to_frames": frames - 1,
                }
            )
        write_manifest(root, split, rows)
        pair = {"frame_a": 3, "frame_b": 90, "distance_m": 0.2, "angle_diff_deg": 0.0, "quality_score": 0.4}
        entries = [{"scene_id": s, "trajectory_id": "forward", "evaluation_pairs": [pair]} for s in ids]
        (folder / "scene_trajectories_v2.json").write_text(json.dumps({"scenes": entries}))


def write_camera(path: Path, frames: int = FRAMES, **changed: np.ndarray) -> None:
    """A camera file; `changed` replaces arrays."""
    c2w = np.repeat(np.eye(4)[None], frames, axis=0)
    c2w[:, 2, 3] = np.linspace(0, 1, frames)
    lens = np.array([[30.0, 0, WIDTH / 2], [0, 30.0, HEIGHT / 2], [0, 0, 1]])
    arrays = {"c2w": c2w, "intrinsics": np.repeat(lens[None], frames, axis=0), "fps": 16, "num_frames": frames}
    np.savez(path, **(arrays | changed))  # type: ignore[arg-type]


def write_manifest(root: Path, split: str, rows: Sequence[object]) -> None:
    path = root / SPLITS[split] / "sanawm_export_v2" / "run_manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_manifest(root: Path, split: str) -> list[dict[str, object]]:
    path = root / SPLITS[split] / "sanawm_export_v2" / "run_manifest.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
