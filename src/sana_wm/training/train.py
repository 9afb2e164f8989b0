"""A whole recipe, from nothing to a model directory. Every part picks up where an earlier run left it."""

from __future__ import annotations

import json
import logging
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from sana_wm.checkpoints.components import Components
from sana_wm.checkpoints.save import save_pretrained
from sana_wm.errors import InputError
from sana_wm.training.autoencoder import AutoencoderStage
from sana_wm.training.progress import Stop, run_stage
from sana_wm.training.recipe import Recipe
from sana_wm.training.record import record_doom
from sana_wm.training.sources import ClipSource
from sana_wm.training.world import WorldStage
from sana_wm.worlds.procedural import Renderer

logger = logging.getLogger(__name__)


def train(recipe: Recipe, directory: Path, *, device: torch.device, stop: Stop, workers: int) -> Path | None:
    """Run `recipe` in `directory`.

    Args:
        stop: when to leave early; what was reached is saved.
        workers: processes that draw scenes and record clips.

    Returns:
        The finished model directory, or None when stopped before.

    Raises:
        InputError: the directory holds a run of a different recipe.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _keep_recipe(recipe, directory)
    torch.set_float32_matmul_precision("high")
    with closing(_source(recipe, directory, device, workers)) as source, stop.on_signals():
        autoencoder = AutoencoderStage(recipe.autoencoder, source, seed=recipe.seed, device=device)
        stages = {"save_every": recipe.save_every, "log_every": recipe.log_every}
        if not run_stage(autoencoder, directory / autoencoder.name, stop=stop, **stages):
            return None
        codec = autoencoder.finished()
        del autoencoder
        size = (recipe.data.height, recipe.data.width)
        world = WorldStage(recipe.world, source, codec, size=size, seed=recipe.seed, device=device)
        if not run_stage(world, directory / world.name, stop=stop, **stages):
            return None
        model = world.finished()
        parts = Components(model.transformer, codec, model.text, recipe.pipeline)
        save_pretrained(directory / "model", parts, overwrite=True)
        save_pretrained(directory / "model_int8", parts, storage="int8", overwrite=True)
    return directory / "model"


def _source(recipe: Recipe, directory: Path, device: torch.device, workers: int) -> ClipSource:
    data = recipe.data
    recorded = {
        frames: record_doom(
            directory / "doom" / f"{frames}",
            split="train",
            num_clips=clips,
            num_frames=frames,
            height=data.height,
            width=data.width,
            seed=recipe.seed + frames,
            workers=workers,
        )
        for frames, clips in data.doom_clips.items()
    }
    return ClipSource(
        Renderer(),
        height=data.height,
        width=data.width,
        device=device,
        recorded=recorded,
        recorded_share=data.doom_share,
        seed=recipe.seed,
        workers=workers,
    )


def _keep_recipe(recipe: Recipe, directory: Path) -> None:
    """Write the recipe beside the run. Another one may train differently, but no other model or size of picture."""
    path = directory / "recipe.json"
    wanted = json.loads(json.dumps(recipe.to_dict()))
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if _model_part(found) != _model_part(wanted):
            raise InputError(f"{directory} holds a run of another model; choose another directory, or delete it")
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _model_part(recipe: dict[str, Any]) -> tuple[object, ...]:
    size = recipe["data"]["height"], recipe["data"]["width"]
    return recipe["seed"], size, recipe["autoencoder"]["model"], recipe["world"]["model"], recipe["world"]["text"]
