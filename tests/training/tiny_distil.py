"""A distillation of all real parts that takes seconds on a CPU: a teacher of a few thousand weights that is its own
student."""

from __future__ import annotations

from pathlib import Path

import torch

from sana_wm.checkpoints.components import Components
from sana_wm.checkpoints.save import save_pretrained
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.training.distill_recipe import DistillRecipe, load_any_recipe
from sana_wm.training.ode import OdeStage
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.scores import Score
from sana_wm.training.self_forcing import SelfForcingStage
from sana_wm.training.sources import ClipSource
from sana_wm.training.world import WorldModel
from sana_wm.worlds.procedural import Renderer
from tests.training import tiny
from tests.training.tiny import CPU

RECIPE = str(Path(__file__).with_name("tiny-distil.yaml"))


def recipe(*overrides: str) -> DistillRecipe:
    found = load_any_recipe(RECIPE, list(overrides))
    assert isinstance(found, DistillRecipe)
    return found


def parts(seed: int = 0) -> tuple[WorldModel, NanoAutoencoder]:
    """A world model in which nothing is silent, and a codec, untrained; the same codec for every seed."""
    whole = tiny.recipe("world.camera_init=open")
    torch.manual_seed(seed)  # PyTorch's layer defaults draw from the global generator
    world = WorldModel(whole.world, torch.Generator().manual_seed(seed)).eval()
    codec = tiny.codec(whole)
    with torch.no_grad():
        codec.latents_std.fill_(0.2)
    return world, codec


def saved(folder: Path, seed: int = 0) -> Path:
    """A model directory to distil, or of a teacher."""
    world, codec = parts(seed)
    save_pretrained(folder, Components(world.transformer, codec, world.text, tiny.recipe().pipeline))
    return folder


def source(recipe: DistillRecipe, peers: Peers = ALONE) -> ClipSource:
    return ClipSource(
        Renderer(samples=1), height=recipe.data.height, width=recipe.data.width, device=CPU,
        recorded={}, recorded_share=0.0, seed=recipe.seed, peers=peers,
    )  # fmt: skip


def ode(recipe: DistillRecipe, peers: Peers = ALONE) -> OdeStage:
    return _stage(OdeStage, recipe, peers)


def self_forcing(recipe: DistillRecipe, peers: Peers = ALONE) -> SelfForcingStage:
    return _stage(SelfForcingStage, recipe, peers)


def _stage(kind, recipe: DistillRecipe, peers: Peers):  # type: ignore[no-untyped-def]
    world, codec = parts()
    score = Score(world.transformer.requires_grad_(False), world.text.requires_grad_(False), recipe.size)
    part = recipe.shared_by(peers.size)
    return kind(part, source(recipe, peers), codec, world.transformer, world.text, score, device=CPU, peers=peers)
