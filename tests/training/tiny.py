"""A recipe of all real parts that trains in seconds on a CPU, and what its runs are compared by."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.training.autoencoder import AutoencoderStage
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.progress import Stage, Stop
from sana_wm.training.recipe import Recipe, load_recipe
from sana_wm.training.sources import ClipSource
from sana_wm.training.start import Start
from sana_wm.training.world import WorldStage
from sana_wm.worlds.procedural import Renderer

RECIPE = str(Path(__file__).with_name("tiny.yaml"))
CPU = torch.device("cpu")


def recipe(*overrides: str) -> Recipe:
    return load_recipe(RECIPE, list(overrides))


def source(recipe: Recipe, workers: int = 0, peers: Peers = ALONE) -> ClipSource:
    """One ray a pixel: the pictures only have to be the same, not smooth."""
    return ClipSource(
        Renderer(samples=1),
        height=recipe.data.height,
        width=recipe.data.width,
        device=CPU,
        recorded={},
        recorded_share=0.0,
        seed=recipe.seed,
        workers=workers,
        peers=peers,
    )


def codec(recipe: Recipe) -> NanoAutoencoder:
    """Weights that the seed decides, untrained."""
    with closing(source(recipe)) as clips:
        return AutoencoderStage(recipe.autoencoder, clips, seed=recipe.seed, device=CPU).model.eval()


def autoencoder(recipe: Recipe, peers: Peers = ALONE, start: NanoAutoencoder | None = None) -> AutoencoderStage:
    """The stage of one of `peers`, all of which together train `recipe`."""
    part, clips = recipe.shared_by(peers.size).autoencoder, source(recipe, peers=peers)
    return AutoencoderStage(part, clips, seed=recipe.seed, device=CPU, start=start, peers=peers)


def world(recipe: Recipe, peers: Peers = ALONE, start: Start | None = None) -> WorldStage:
    """The same for the second stage, on an untrained codec."""
    size = (recipe.data.height, recipe.data.width)
    part, clips = recipe.shared_by(peers.size).world, source(recipe, peers=peers)
    return WorldStage(part, clips, codec(recipe), size=size, seed=recipe.seed, device=CPU, start=start, peers=peers)


class Interrupted:
    """A stage during whose step number `at` (counted from 1) something happens."""

    def __init__(self, stage: Stage, at: int, happens: Callable[[], None]) -> None:
        self.stage, self.at, self.happens = stage, at, happens
        self.name, self.steps = stage.name, stage.steps

    def step(self, step: int) -> dict[str, Tensor]:
        scalars = self.stage.step(step)
        if step + 1 == self.at:
            self.happens()
        return scalars

    def state_tensors(self) -> dict[str, Tensor]:
        return self.stage.state_tensors()

    def load_state_tensors(self, state: dict[str, Tensor], step: int) -> None:
        self.stage.load_state_tensors(state, step)


def stopped_after(stage: Stage, steps: int) -> tuple[Interrupted, Stop]:
    """The stage and a stop that becomes due during its step number `steps`."""
    stop = Stop()
    return Interrupted(stage, steps, lambda: setattr(stop, "signalled", True)), stop


def log(directory: Path) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k not in ("steps_per_second", "peak_gb")} for line in lines]


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
