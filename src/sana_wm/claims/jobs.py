"""What has to be done for which claim, and the doing of it: a job is done when its result lies in a JSON file."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sana_wm.checkpoints.load import load_components
from sana_wm.claims.cost import chunk_cost, forward_cost
from sana_wm.claims.follow import measure_follow
from sana_wm.claims.key_scale import run_until_bad
from sana_wm.claims.long import measure_long
from sana_wm.claims.share import Share
from sana_wm.claims.variants import KEY_SCALES, RECIPE, SCHEDULES, Variant, variants
from sana_wm.errors import InputError
from sana_wm.evaluation.minute import MINUTE_FRAMES
from sana_wm.evaluation.nano_marks import environment
from sana_wm.training.progress import Stop
from sana_wm.training.recipe import Recipe, load_recipe
from sana_wm.training.sources import ClipSource
from sana_wm.training.start import load_start
from sana_wm.training.train import train
from sana_wm.training.world import WorldStage
from sana_wm.worlds.procedural import Renderer

logger = logging.getLogger(__name__)

CLAIMS = ("key_scale", "schedule", "camera", "minute", "state")
CODEC = "nano"
SECONDS = (5, 15, 30, 60)
"""Lengths at which a forward pass is measured."""
CHUNKS_BEFORE = (0, 10, 20, 40)
"""Chunks before the one that is measured; 40 are a minute."""
KEY_STEPS = 100
LOSS_STEPS = 200
"""Steps at the end over which a training loss is averaged."""


@dataclass(frozen=True)
class Lab:
    """Where and how the jobs run.

    Attributes:
        overrides: of the recipe of every variant.
        scenes, long_scenes: held-out clips of a training clip's length, and of `long_frames`.
        batch: clips generated at a time.
    """

    directory: Path
    device: torch.device
    scenes: int = 32
    long_scenes: int = 8
    long_frames: int = MINUTE_FRAMES
    batch: int = 16
    workers: int = 0
    overrides: tuple[str, ...] = ()
    stop: Stop = field(default_factory=Stop)

    def recipe(self, overrides: tuple[str, ...]) -> Recipe:
        """The recipe of the claims with what a variant, and then the whole lab, has different."""
        return load_recipe(RECIPE, [*overrides, *self.overrides])


@dataclass(frozen=True)
class Job:
    """`run` returns the result, or None when it was stopped before there was one."""

    name: str
    run: Callable[[Lab], dict[str, Any] | None]


def plan(claims: tuple[str, ...], seeds: int, share: Share) -> list[Job]:
    """The jobs of a share, in an order that can be run.

    Raises:
        InputError: there is no such claim, or fewer than one seed.
    """
    unknown = sorted(set(claims) - set(CLAIMS))
    if unknown or not claims:
        raise InputError(f"only names {unknown or 'nothing'}; claims are {', '.join(CLAIMS)}.")
    jobs: list[Job] = []
    if "key_scale" in claims:
        jobs += [Job(f"key_{scale}", _key_job(scale)) for scale in KEY_SCALES]
    models = variants(claims, seeds)
    begun = [Job(v.name, _variant_job(v)) for v in models if v.after is None]
    jobs += begun
    if "schedule" in claims:
        jobs += [Job("forward_cost", _forward_job), Job("forward_cost_cpu", _forward_on_cpu_job)]
    if "state" in claims:
        jobs += [Job("chunk_cost", _chunk_job)]
    mine = [job for number, job in enumerate(jobs) if share.has(number)]
    # What goes on from a variant is done where that one is, after it.
    names = {job.name for job in mine}
    return mine + [Job(v.name, _variant_job(v)) for v in models if v.after in names]


def work(lab: Lab, jobs: list[Job]) -> bool:
    """Do what is not done yet; False when stopped before all was."""
    for job in jobs:
        path = lab.directory / "results" / f"{job.name}.json"
        if path.is_file():
            continue
        logger.info("claims: %s", job.name)
        result = None if lab.stop.due() else job.run(lab)
        if result is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        content = {"name": job.name, "environment": environment(lab.device), **result}
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
    return True


def _variant_job(variant: Variant) -> Callable[[Lab], dict[str, Any] | None]:
    def run(lab: Lab) -> dict[str, Any] | None:
        recipe = lab.recipe(variant.overrides)
        folder = lab.directory / "runs" / variant.name
        init = CODEC if variant.after is None else str(lab.directory / "runs" / variant.after / "model")
        model = train(recipe, folder, device=lab.device, stop=lab.stop, workers=lab.workers, init=init)
        if model is None:
            return None
        parts = load_components(model, device=lab.device, dtype=torch.float32)
        renderer = Renderer()
        result: dict[str, Any] = {
            "settings": {"overrides": [*variant.overrides, *lab.overrides], "after": variant.after},
            "parameters": sum(p.numel() for p in parts.transformer.parameters()),
            **_training(folder / "world" / "log.jsonl"),
            "follow": measure_follow(
                parts, lab.device,
                scenes=lab.scenes, num_frames=recipe.pipeline.num_frames, batch=lab.batch, renderer=renderer,
                workers=lab.workers,
            ),
        }  # fmt: skip
        if variant.after is not None:
            result["long"] = measure_long(
                parts, lab.device, scenes=lab.long_scenes, num_frames=lab.long_frames, renderer=renderer
            )
        return result

    return run


def _training(log: Path) -> dict[str, Any]:
    """The loss curve of clips of the shortest length and its mean over the last steps."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    shortest = min(line["frames"] for line in lines)
    curve = [(line["step"], round(line["loss"], 5)) for line in lines if line["frames"] == shortest]
    late = [loss for step, loss in curve if step > lines[-1]["step"] - LOSS_STEPS]
    return {"steps": lines[-1]["step"], "loss": sum(late) / len(late), "loss_curve": curve}


def _key_job(scale: str) -> Callable[[Lab], dict[str, Any] | None]:
    def run(lab: Lab) -> dict[str, Any]:
        recipe = lab.recipe((f"world.model.key_scale={scale}",))
        size = (recipe.data.height, recipe.data.width)
        start = load_start(CODEC, recipe)
        source = ClipSource(
            Renderer(), height=size[0], width=size[1], device=lab.device,
            recorded={}, recorded_share=0.0, seed=recipe.seed, workers=lab.workers,
        )  # fmt: skip
        with closing(source):
            stage = WorldStage(
                recipe.world, source, start.codec.to(lab.device), size=size, seed=recipe.seed, device=lab.device
            )
            steps = min(KEY_STEPS, recipe.world.optimizer.steps)
            return {"scale": scale, "steps": steps, **run_until_bad(stage, steps).to_dict()}

    return run


def _forward_on_cpu_job(lab: Lab) -> dict[str, Any]:
    """Where models this small are bound by arithmetic: a GPU mostly waits for whoever launches their kernels."""
    cpu = torch.device("cpu")
    return {**_forward_job(replace(lab, device=cpu)), "environment": environment(cpu)}


def _forward_job(lab: Lab) -> dict[str, Any]:
    size, cost = None, {}
    for name, overrides in SCHEDULES.items():
        recipe = lab.recipe(overrides)
        size = (recipe.data.height, recipe.data.width)
        cost[name] = [forward_cost(recipe.world.model, seconds, size, lab.device) for seconds in SECONDS]
    return {"size": size, "cost": cost}


def _chunk_job(lab: Lab) -> dict[str, Any]:
    recipe = lab.recipe(())
    size = (recipe.data.height, recipe.data.width)
    costs = [{"before": n, **chunk_cost(recipe.world.model, n, size, lab.device)} for n in CHUNKS_BEFORE]
    return {"size": size, "cost": costs}
