"""From the results of scenes to the numbers of a split and of each category, with what failed counted beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from sana_wm.engine.sidecar import versions
from sana_wm.evaluation.bench.floors import AUTOENCODER, RENDER
from sana_wm.evaluation.bench.over_time import change
from sana_wm.evaluation.bench.settings import CAMERA, REVISIT, TEMPORAL, TRUTH, VBENCH
from sana_wm.evaluation.marks import summary
from sana_wm.evaluation.vbench import QUALITY_DIMENSIONS, overall

FORMAT, VERSION = "sana-wm benchmark summary", 1

Result = Mapping[str, Any]
"""The JSON of one scene."""

ERRORS = ("rot_err", "trans_err", "cam_mc")
OF_PATH = "trans_err_of_path"
LIKENESS = ("psnr", "ssim", "lpips")


def failure(result: Result) -> str | None:
    """Why a scene counts as failed: it has no video, or too few of its frames have a pose. None if it does not."""
    return result["failed"] or part(result, CAMERA).get("failed")


def part(result: Result, name: str) -> Mapping[str, Any]:
    """A part of a result; empty where it was not measured."""
    return result["parts"].get(name, {})


def summarise(
    results: Mapping[str, Sequence[Result]],
    vbench: Mapping[str, Mapping[str, float]],
    *,
    method: Mapping[str, Any],
    settings: Mapping[str, Any],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """All scenes of each split as one summary, ready for JSON.

    Args:
        results: split -> results of its scenes.
        vbench: split -> VBench's own raw numbers, by dimension, where it was run.
        missing: measure -> why it is not there.
    """
    splits: dict[str, Any] = {}
    for split, scenes in results.items():
        categories = dict.fromkeys(scene["scene"]["category"] for scene in scenes)
        splits[split] = {
            "all": group(scenes, vbench.get(split, {})),
            "categories": {c: group([s for s in scenes if s["scene"]["category"] == c]) for c in categories},
        }
    failed = [
        {"split": split, "scene": scene["scene"]["id"], "reason": failure(scene)}
        for split, scenes in results.items()
        for scene in scenes
        if failure(scene) is not None
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "method": dict(method),
        "settings": dict(settings),
        "missing": dict(missing),
        "failed": failed,
        "splits": splits,
        "versions": versions(),
    }


def group(scenes: Sequence[Result], vbench: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Numbers of some scenes.

    Camera errors are over the scenes that did not fail; everything else, floors and the share of registered frames too,
    over those with a video. Each number is mean, std, min, median, max and n, or None where no scene has it.
    """
    good = [scene for scene in scenes if failure(scene) is None]
    seen = [scene for scene in scenes if scene["failed"] is None]
    return {
        "scenes": len(scenes),
        "measured": len(good),
        "failed": len(scenes) - len(good),
        "camera": {
            **_camera([part(scene, CAMERA) for scene in good]),
            "registered": _numbers(part(scene, CAMERA).get("registered") for scene in seen),
        },
        "floors": {kind: _floor([part(s, CAMERA) for s in seen], kind) for kind in (RENDER, AUTOENCODER)},
        "truth": {
            **{name: _numbers(part(scene, TRUTH).get(name) for scene in seen) for name in LIKENESS},
            "psnr_windows": _windows(part(scene, TRUTH).get("psnr_windows") for scene in seen),
        },
        "revisit": _revisit([part(scene, REVISIT) for scene in seen]),
        "temporal": _temporal([part(scene, TEMPORAL) for scene in seen]),
        "vbench": _vbench([part(scene, VBENCH) for scene in seen], vbench or {}),
    }


def eval_poses(scenes: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Content of the release's `eval_poses.json` (spec 61 section 3.2).

    A failed scene is in it too, with null for its errors and the reason, so that no mean leaves it out unseen.
    """
    content: dict[str, dict[str, Any]] = {}
    for scene in scenes:
        camera = part(scene, CAMERA)
        if not camera and scene["failed"] is None:
            continue  # the camera was not asked for
        release = {} if failure(scene) is not None else camera["release"]
        entry = {
            "RotErr": release.get("rot_err"),
            "RotErr_unit": "deg",
            "TransErr_rel": release.get("trans_err"),
            "CamMC_rel": release.get("cam_mc"),
            "scene_type": scene["scene"]["category"],
            "n_frames": len(camera.get("frames", [])),
            "skip_first_frame": camera.get("skip_first_frame"),
        }
        content[scene["scene"]["id"]] = entry if release else {**entry, "failed": failure(scene)}
    return content


def _camera(cameras: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def release(name: str) -> Callable[[Mapping[str, Any]], Any]:
        return lambda camera: camera.get("release", {}).get(name)

    lengths = ("path_length_ratio", "metric_length_ratio")
    found = {name: _numbers(map(release(name), cameras)) for name in (*ERRORS, OF_PATH, *lengths)}
    for name in ("rotation_deg", "translation"):
        relative = (camera.get("release", {}).get("relative", {}).get(name) for camera in cameras)
        found[f"relative_{name}"] = _numbers(relative)
    for name in ERRORS:
        found[f"umeyama_{name}"] = _numbers(camera.get("umeyama", {}).get(name) for camera in cameras)
    return found


def _floor(cameras: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any] | None:
    floors = [camera["floors"][kind] for camera in cameras if kind in camera.get("floors", {})]
    if not floors:
        return None
    good = [floor for floor in floors if floor["failed"] is None]
    found: dict[str, Any] = {n: _numbers(floor["release"].get(n) for floor in good) for n in (*ERRORS, OF_PATH)}
    for name in ("rotation_deg", "translation"):
        found[f"relative_{name}"] = _numbers(floor["release"].get("relative", {}).get(name) for floor in good)
    found["registered"] = _numbers(floor["registered"] for floor in floors)
    for name in (*LIKENESS, "sharpness_ratio"):
        found[name] = _numbers(floor.get(name) for floor in floors)
    return {"scenes": len(floors), "failed": len(floors) - len(good), **found}


def _revisit(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over all pairs, so a scene with fewer weighs less, as published (spec 61 section 5.1)."""
    asked = [p for p in parts if p]
    pairs = [pair for p in asked for pair in p["pairs"]]
    return {
        "pairs": len(pairs),
        "scenes_without_pairs": sum(not p["pairs"] for p in asked),
        **{name: _numbers(pair[name] for pair in pairs) for name in LIKENESS},
    }


def _temporal(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sharp = [p["sharpness"] for p in parts if p]
    quality = [p["imaging_quality"] or {} for p in parts if p]
    found: dict[str, Any] = {name: _windows(s.get(name) for s in sharp) for name in ("ratio", "relative")}
    windows = _windows(q.get("windows") for q in quality)
    found["imaging_quality"] = {
        "windows": windows,
        "first": windows[0] if windows else None,
        "last": windows[-1] if windows and len(windows) > 1 else None,
        "delta": change(windows),
    }
    found["window_seconds"] = sharp[0]["window_seconds"] if sharp else None
    return found


def _windows(curves: Iterable[Sequence[float] | None]) -> list[float] | None:
    """Mean of each window; None where a scene has none, or another number of them: the ends would average other scenes
    than the beginnings."""
    given = list(curves)
    if not given or any(curve is None for curve in given):
        return None
    known = [curve for curve in given if curve is not None]
    if len({len(curve) for curve in known}) != 1:
        return None
    return [fmean(values) for values in zip(*known, strict=True)]


def _vbench(parts: Sequence[Mapping[str, Any]], raw: Mapping[str, float]) -> dict[str, Any]:
    """Raw numbers, shares of 1; `overall`, 0 to 100, only where all seven dimensions of quality are there."""
    flickering = _numbers(p.get("temporal_flickering") for p in parts)
    numbers: dict[str, Any] = {}
    if flickering is not None:
        numbers["temporal_flickering"] = flickering["mean"]
    numbers |= raw
    complete = set(QUALITY_DIMENSIONS) <= numbers.keys()
    return {**numbers, "overall": overall(numbers) if complete else None}


def _numbers(values: Iterable[Any]) -> dict[str, float] | None:
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return summary(known) if known else None
