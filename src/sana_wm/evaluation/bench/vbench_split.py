"""The real VBench over the videos of a split, where the user points to its environment (spec 61 section 4)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from sana_wm.engine.mp4 import write_mp4
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.fingerprint import file_sha256
from sana_wm.evaluation.bench.folder import read_ours, write_json
from sana_wm.evaluation.bench.plan import Plan
from sana_wm.evaluation.bench.settings import key_of
from sana_wm.evaluation.bench.video_file import VideoFile
from sana_wm.evaluation.vbench_adapter import run_vbench


def vbench_numbers(plan: Plan, split: str, scenes: Sequence[BenchScene], device: torch.device) -> dict[str, float]:
    """VBench's raw numbers over the videos there are; empty where no environment with VBench is named.

    They are kept, and made anew when a video, a prompt or the dimensions change.
    Raises :class:`~sana_wm.errors.InputError` where VBench does not run.
    """
    measures = plan.measures
    paths = [(plan.method.video(split, scene.scene_id), scene.prompt) for scene in scenes]
    prompts = {path: prompt for path, prompt in paths if path.is_file()}
    if measures.vbench_python is None or not prompts:
        return {}
    key = key_of({
        "dimensions": list(measures.vbench_dims),
        "videos": {path.name: [prompt, file_sha256(path)] for path, prompt in prompts.items()},
        "skip_first_frame": plan.skip_first,
    })  # fmt: skip
    folder = plan.method.vbench(split)
    kept = read_ours(folder / "numbers.json")
    if kept.get("key") == key:
        return dict(kept["numbers"])
    only_videos = folder / "videos"
    shutil.rmtree(only_videos, ignore_errors=True)
    only_videos.mkdir(parents=True)
    for path in prompts:
        _show(path, only_videos / path.name, plan.skip_first)
    numbers = run_vbench(
        only_videos,
        {path.name: prompt for path, prompt in prompts.items()},
        folder,
        dimensions=measures.vbench_dims,
        python=measures.vbench_python,
        weights=measures.vbench_weights,
        device=device.type,
    )
    shutil.rmtree(only_videos)
    write_json(folder / "numbers.json", {"key": key, "numbers": numbers})
    return numbers


def _show(video: Path, place: Path, skip_first: bool) -> None:
    """Put a video where VBench looks, without its first frame if that is left out (encoded again, as released)."""
    if not skip_first:
        place.symlink_to(video.resolve())
        return
    file = VideoFile.open(video)
    frames = torch.cat(list(file.chunks()))[1:].permute(0, 2, 3, 1).numpy()
    write_mp4(place, frames, round(file.fps))
