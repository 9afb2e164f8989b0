"""Everything that is measured on one scene, kept in one JSON file; what is there and still holds is not made again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sana_wm.engine.sidecar import versions
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.folder import read_ours, write_json
from sana_wm.evaluation.bench.measuring import Measuring, Parts
from sana_wm.evaluation.bench.plan import SHEET, Plan
from sana_wm.evaluation.bench.tools import Tools
from sana_wm.evaluation.bench.video_file import VideoError, VideoFile

FORMAT, VERSION = "sana-wm benchmark scene", 1


def is_measured(plan: Plan, scene: BenchScene) -> bool:
    """Whether every part asked for is there, made with the settings of `plan` from the video that is there now."""
    try:
        video = VideoFile.open(plan.method.video(scene.split, scene.scene_id))
    except VideoError:
        return False
    return plan.wanted(scene.split) <= _holding(plan, scene, plan.part_keys(scene, video)).keys()


def measure_scene(tools: Tools, scene: BenchScene) -> None:
    """Measure what is missing or out of date and write the scene's JSON and contact sheet.

    A video that is missing or cannot be decoded makes a result that says so: the scene counts as failed.
    Raises :class:`~sana_wm.errors.InputError` where the engine or another tool cannot run at all.
    """
    plan = tools.plan
    begin = time.perf_counter()
    try:
        video = VideoFile.open(plan.method.video(scene.split, scene.scene_id))
        keys = plan.part_keys(scene, video)
        parts = _holding(plan, scene, keys)
        missing = sorted(plan.wanted(scene.split) - parts.keys())
        made = Measuring(tools, scene, video).parts(missing) if missing else {}
    except VideoError as error:
        write_failure(plan, scene, str(error))
        return
    parts |= {part: {"key": keys[part], **content} for part, content in made.items()}
    _write(plan, scene, video, parts, time.perf_counter() - begin)


def _holding(plan: Plan, scene: BenchScene, keys: Mapping[str, str]) -> Parts:
    """The parts on disk that still hold."""
    parts: Parts = read_ours(plan.method.result(scene.split, scene.scene_id)).get("parts", {})
    found = {part: parts[part] for part, key in keys.items() if parts.get(part, {}).get("key") == key}
    if not plan.method.sheet(scene.split, scene.scene_id).is_file():
        found.pop(SHEET, None)
    return found


def write_failure(plan: Plan, scene: BenchScene, reason: str) -> None:
    """Put down that a scene has no video that could be measured."""
    content = {**_head(plan, scene), "failed": reason, "video": None, "parts": {}}
    write_json(plan.method.result(scene.split, scene.scene_id), content)


def _head(plan: Plan, scene: BenchScene) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "scene": {
            "id": scene.scene_id,
            "split": scene.split,
            "category": scene.category,
            "trajectory_id": scene.trajectory_id,
            "prompt": scene.prompt,
            "frames": len(scene.c2w),
            "fps": scene.fps,
        },
    }


def _write(plan: Plan, scene: BenchScene, video: VideoFile, parts: Mapping[str, Any], seconds: float) -> None:
    measures = plan.measures
    content = {
        **_head(plan, scene),
        "failed": None,
        "video": {
            "file": video.path.name,
            "frames": video.num_frames,
            "width": video.width,
            "height": video.height,
            "fps": video.fps,
        },
        "settings": {
            "engine": measures.engine,
            "engine_settings": {name: str(value) for name, value in measures.engine_settings.items()},
            "interval": measures.interval,
            "skip_first_frame": plan.skip_first,
            "window_seconds": measures.window_seconds,
            "max_pairs": measures.max_pairs,
            "ref_fps": measures.ref_fps,
        },
        "seconds": round(seconds, 2),
        "versions": versions(),
        "parts": parts,
    }
    write_json(plan.method.result(scene.split, scene.scene_id), content)
