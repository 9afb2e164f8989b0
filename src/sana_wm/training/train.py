"""A whole recipe, from first weights to a model directory. Every part picks up where an earlier run left it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from sana_wm.checkpoints.components import Components
from sana_wm.checkpoints.save import save_pretrained
from sana_wm.data.recorded import read_clips
from sana_wm.errors import InputError
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.training.autoencoder import AutoencoderStage
from sana_wm.training.directory import keep_recipe
from sana_wm.training.distill_recipe import DistillRecipe
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.progress import Stop, run_stage
from sana_wm.training.recipe import Recipe
from sana_wm.training.record import record_doom
from sana_wm.training.sources import ClipSource
from sana_wm.training.start import Start, load_start
from sana_wm.training.world import WorldStage
from sana_wm.worlds.procedural import Renderer

SAME = ("seed", "data.height", "data.width", "autoencoder.model", "world.model", "world.text")
"""Settings that a run which goes on in a directory must share with the one that began it."""


def train(
    recipe: Recipe,
    directory: Path,
    *,
    device: torch.device,
    stop: Stop,
    workers: int,
    init: str | None = None,
    peers: Peers = ALONE,
) -> Path | None:
    """Run `recipe` in `directory`.

    Args:
        stop: when to leave early; what was reached is saved.
        workers: processes that draw scenes and record clips, for each of the peers.
        init: a trained model to go on from; see :func:`~sana_wm.training.start.load_start`. With no steps for the
            autoencoder, its codec is kept as it is.
        peers: the processes that share this run, all called alike. An interrupted run may go on with another number
            of them, but only with the same number it ends as if it had not been interrupted.

    Returns:
        The finished model directory, or None when stopped before.

    Raises:
        InputError: the directory holds a run of a different recipe, `init` does not fit this one, or a batch cannot be
            dealt out to the peers evenly.
    """
    start = None if init is None else load_start(init, recipe)
    if start is None and recipe.autoencoder.optimizer.steps < 1:
        raise InputError("autoencoder.optimizer.steps is 0 and there is no model to take a codec from; give --init")
    part = recipe.shared_by(peers.size)
    if peers.leads:
        directory.mkdir(parents=True, exist_ok=True)
        keep_recipe(recipe.to_dict() | {"init": None if start is None else start.record()}, SAME, directory)
    torch.set_float32_matmul_precision("high")
    with stop.on_signals(), closing(open_source(recipe, directory, device, workers, stop, peers)) as source:
        codec = _codec(part, directory, source, stop, start, peers)
        if codec is None:
            return None
        size = (recipe.data.height, recipe.data.width)
        shared: dict[str, Any] = {"seed": recipe.seed, "device": device, "peers": peers, "start": start}
        world = WorldStage(part.world, source, codec, size=size, **shared)
        plan = {"save_every": recipe.save_every, "log_every": recipe.log_every}
        if not run_stage(world, directory / world.name, stop=stop, peers=peers, **plan):
            return None
        model = world.finished()
        if peers.leads:
            parts = Components(model.transformer, codec, model.text, recipe.pipeline)
            save_pretrained(directory / "model", parts, overwrite=True)
            save_pretrained(directory / "model_int8", parts, storage="int8", overwrite=True)
        peers.wait()
    return directory / "model"


def _codec(
    recipe: Recipe, directory: Path, source: ClipSource, stop: Stop, start: Start | None, peers: Peers
) -> NanoAutoencoder | None:
    """The trained or given codec, or None when stopped before its training was over."""
    if start is not None and recipe.autoencoder.optimizer.steps < 1:
        return start.codec.to(source.device)
    codec = None if start is None else start.codec
    stage = AutoencoderStage(
        recipe.autoencoder, source, seed=recipe.seed, device=source.device, start=codec, peers=peers
    )
    plan = {"save_every": recipe.save_every, "log_every": recipe.log_every}
    done = run_stage(stage, directory / stage.name, stop=stop, peers=peers, **plan)
    return stage.finished() if done else None


def open_source(
    recipe: Recipe | DistillRecipe, directory: Path, device: torch.device, workers: int, stop: Stop, peers: Peers
) -> ClipSource:
    """Clips for all stages; when `stop` came while they were recorded, they are not all there, and none is used."""
    data = recipe.data
    folder = directory / "doom"
    if peers.leads:
        for frames, clips in data.doom_clips.items():
            record_doom(
                folder / f"{frames}",
                split="train",
                num_clips=clips,
                num_frames=frames,
                height=data.height,
                width=data.width,
                seed=recipe.seed + frames,
                workers=workers,
                stop=stop.due,
            )
    peers.wait()
    recorded = {frames: read_clips(folder / f"{frames}", clips) for frames, clips in data.doom_clips.items()}
    return ClipSource(
        Renderer(),
        height=data.height,
        width=data.width,
        device=device,
        recorded=recorded,
        recorded_share=data.doom_share,
        seed=recipe.seed,
        workers=workers,
        peers=peers,
    )
