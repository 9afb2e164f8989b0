"""A tiny benchmark in the published layout, without true videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sana_wm.evaluation.bench.dataset import SPLITS
from sana_wm.geometry.actions import rollout

FRAMES, FPS, SIZE = 17, 16.0, (32, 48)
SCENES = ("indoor_001", "indoor_002", "game_001")


def write_published(root: Path, *, split: str = "simple", scenes: Sequence[str] = SCENES, frames: int = FRAMES) -> Path:
    """Write scenes with different pictures, prompts and paths that come back; one revisit pair each."""
    folder = root / SPLITS[split]
    for made in (root / "images", root / "scene_set", folder / "sanawm_export_v2"):
        made.mkdir(parents=True, exist_ok=True)
    (root / "scene_set" / "kept_scenes.txt").write_text("\n".join(scenes) + "\n")
    rows, paths = [], []
    for number, scene in enumerate(scenes):
        image, camera = f"images/{scene}.png", f"{SPLITS[split]}/sanawm_export_v2/{scene}.npz"
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        pixels = np.stack((5 * x, 7 * y, (x * (3 + number) + y * 11) % 256), axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(root / image)
        half = (frames - 1) // 2
        c2w = rollout(f"{'wd'[number % 2]}-{half},{'sa'[number % 2]}-{frames - 1 - half}").double().numpy()
        lens = np.array([[40.0, 0, 24], [0, 40.0, 16], [0, 0, 1]])
        np.savez(root / camera, c2w=c2w, intrinsics=np.repeat(lens[None], frames, axis=0), fps=FPS, num_frames=frames)
        prompt = f"scene number {number}"
        rows.append({
            "id": scene, "image_path": image, "camera_path": camera, "prompt": prompt, "scene_type": scene[:-4],
            "trajectory_id": "out_and_back", "sanawm_frames": frames, "expected_fps": FPS,
        })  # fmt: skip
        pair = {"frame_a": 1, "frame_b": frames - 2, "distance_m": 0.0, "angle_diff_deg": 0.0, "quality_score": 0.1}
        paths.append({"scene_id": scene, "trajectory_id": "out_and_back", "evaluation_pairs": [pair]})
    (folder / "sanawm_export_v2" / "run_manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "scene_trajectories_v2.json").write_text(json.dumps({"scenes": paths}))
    return root
