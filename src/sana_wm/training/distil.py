"""A whole distillation, from a trained model and its teacher to a student that streams in a few steps."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from sana_wm.checkpoints.components import Components
from sana_wm.checkpoints.save import save_pretrained
from sana_wm.errors import InputError
from sana_wm.training.directory import keep_recipe
from sana_wm.training.distill_recipe import STRIDE, DistillRecipe
from sana_wm.training.ode import OdeStage
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.progress import Stop, run_stage
from sana_wm.training.scores import Score
from sana_wm.training.self_forcing import SelfForcingStage
from sana_wm.training.start import Start, load_trained
from sana_wm.training.train import open_source

SAME = ("seed", "data.height", "data.width", "pipeline.stream")


def distil(
    recipe: DistillRecipe,
    directory: Path,
    *,
    device: torch.device,
    stop: Stop,
    workers: int,
    init: str | None,
    peers: Peers = ALONE,
) -> Path | None:
    """Run `recipe` in `directory`; arguments and result as of :func:`~sana_wm.training.train.train`.

    Args:
        init: what the student begins with; its codec and its text encoder stay as they are.

    Raises:
        InputError: as there; there is no `init`, or student and teacher do not fit together.
    """
    if init is None:
        raise InputError("a student begins with a trained model; give --init")
    start, teacher = load_trained(init), load_trained(recipe.teacher)
    _check_pair(start, teacher)
    part = recipe.shared_by(peers.size)
    if peers.leads:
        directory.mkdir(parents=True, exist_ok=True)
        began = {"init": start.record(), "teacher_weights": teacher.record()}
        keep_recipe(recipe.to_dict() | began, SAME, directory)
    torch.set_float32_matmul_precision("high")
    plan = {"save_every": recipe.save_every, "log_every": recipe.log_every}
    with stop.on_signals(), closing(open_source(recipe, directory, device, workers, stop, peers)) as source:
        codec, text = start.codec.to(device), start.text.to(device).requires_grad_(False)
        student = start.transformer.to(device)
        score = Score(teacher.transformer.to(device).requires_grad_(False), teacher.text.to(device), recipe.size)
        shared: dict[str, Any] = {"device": device, "peers": peers}
        if part.ode is not None:
            ode = OdeStage(part, source, codec, student, text, score, **shared)
            if not run_stage(ode, directory / ode.name, stop=stop, peers=peers, **plan):
                return None
            student = ode.finished()
        if part.self_forcing is not None:
            forcing = SelfForcingStage(part, source, codec, student, text, score, **shared)
            if not run_stage(forcing, directory / forcing.name, stop=stop, peers=peers, **plan):
                return None
            student = forcing.finished()
        if peers.leads:
            parts = Components(student, codec, text, recipe.pipeline)
            save_pretrained(directory / "model", parts, overwrite=True)
            save_pretrained(directory / "model_int8", parts, storage="int8", overwrite=True)
        peers.wait()
    return directory / "model"


def _check_pair(start: Start, teacher: Start) -> None:
    """One codec, one way of reading captions, one kind of latents; a teacher that sees whole clips."""
    if teacher.settings.stream is not None:
        raise InputError(
            f"the teacher {teacher.model} sees in chunks; a teacher sees whole clips, as that of `sana-wm train nano`"
        )
    ours, theirs = start.codec.state_dict(), teacher.codec.state_dict()
    same = ours.keys() == theirs.keys() and all(torch.equal(x, theirs[name]) for name, x in ours.items())
    if not same:
        raise InputError(f"{start.model} and the teacher {teacher.model} have different codecs; they must share one")
    for field in fields(start.text.config):
        mine, its = getattr(start.text.config, field.name), getattr(teacher.text.config, field.name)
        if field.name in ("stride", "max_tokens") and mine != its:
            raise InputError(f"{start.model} reads captions with {field.name} {mine}, the teacher with {its}")
    if start.codec.temporal_stride != STRIDE:
        raise InputError(f"{start.model} has {start.codec.temporal_stride} frames a latent; recipes count {STRIDE}")
