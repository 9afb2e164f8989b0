"""The end of a run: from the results of all scenes to tables and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from sana_wm.evaluation.bench.aggregate import eval_poses, summarise
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.folder import read_ours, replacing, write_json
from sana_wm.evaluation.bench.plan import Plan
from sana_wm.evaluation.bench.report.write import write_report
from sana_wm.evaluation.bench.settings import TEMPORAL, VBENCH
from sana_wm.evaluation.bench.tables import markdown
from sana_wm.evaluation.bench.vbench_split import vbench_numbers


def conclude(
    plan: Plan, chosen: Mapping[str, Sequence[BenchScene]], missing: Mapping[str, str], device: torch.device
) -> dict[str, Any]:
    """Write `eval_poses.json`, the summary and the report of the scenes that were chosen. Returns the summary."""
    folder = plan.method
    results: dict[str, list[dict[str, Any]]] = {}
    vbench: dict[str, dict[str, float]] = {}
    for split, scenes in chosen.items():
        results[split] = [_asked(plan, scene) for scene in scenes]
        write_json(folder.eval_poses(split), eval_poses(results[split]))
        if VBENCH in plan.measures.metrics:
            vbench[split] = vbench_numbers(plan, split, scenes, device)
    summary = summarise(
        results, vbench, method=folder.read_info(), settings=_described(plan), missing={**missing, **_absent(plan)}
    )
    write_json(folder.summary, summary)
    with replacing(folder.tables) as partial:
        partial.write_text(markdown(summary) + "\n", encoding="utf-8")
    write_report(folder, summary, results)
    return summary


def _asked(plan: Plan, scene: BenchScene) -> dict[str, Any]:
    """The result of a scene with the parts that this run asks for."""
    result = read_ours(plan.method.result(scene.split, scene.scene_id))
    wanted = plan.wanted(scene.split)
    return {**result, "parts": {name: part for name, part in result["parts"].items() if name in wanted}}


def _described(plan: Plan) -> dict[str, Any]:
    """The settings of a run as plain values."""
    measures, generation = plan.measures, plan.generation
    return {
        "benchmark": plan.bench.name,
        "true_splits": list(plan.true_splits),
        "generation": None if generation is None else asdict(generation),
        "engine": measures.engine,
        "metrics": list(measures.metrics),
        "interval": measures.interval,
        "skip_first_frame": plan.skip_first,
        "window_seconds": measures.window_seconds,
        "max_pairs": measures.max_pairs,
        "ref_fps": measures.ref_fps,
    }


def _absent(plan: Plan) -> dict[str, str]:
    """Measures that this run lacks, and why."""
    measures = plan.measures
    absent = {}
    if TEMPORAL in measures.metrics and measures.iq_weights is None:
        absent["imaging quality"] = "no MUSIQ weights are named (--iq_weights)"
    if VBENCH in measures.metrics and measures.vbench_python is None:
        absent["VBench but temporal flickering"] = "no environment with VBench is named (--vbench_python)"
    if not plan.true_splits:
        absent["truth and floors"] = "this benchmark does not come with the true videos"
    elif plan.prints is None:
        absent["floor of the autoencoder"] = "the videos come without their model"
    return absent
