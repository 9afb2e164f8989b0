"""A student learns the ways of its teacher: the start of a distillation (spec 51, section 3)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility
from sana_wm.training.distill_recipe import DistillRecipe
from sana_wm.training.distillation import take_snapshots
from sana_wm.training.noise_levels import of_frames
from sana_wm.training.optim import Optimizer
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.scores import Score, TrajectoryBank, features, mixed
from sana_wm.training.sources import ClipSource
from sana_wm.training.steady import LOOKS, ROUNDS, steady


class OdeStage:
    """From frames anywhere on a teacher's way, a noise level a chunk, the student guesses where the way ends.

    It sees in chunks over the whole clip at once: the past of a chunk is as noisy as it was drawn.

    Args:
        recipe: this peer's part of it, with a part `ode`.
        student, text: what the student begins with, and its text encoder, which stays as it is.
    """

    name = "ode"

    def __init__(
        self,
        recipe: DistillRecipe,
        source: ClipSource,
        codec: NanoAutoencoder,
        student: SanaWMTransformer,
        text: NanoTextEncoder,
        teacher: Score,
        *,
        device: torch.device,
        peers: Peers = ALONE,
    ) -> None:
        assert recipe.ode is not None
        self.recipe, self.ode, self.device, self.peers = recipe, recipe.ode, device, peers
        self.steps = recipe.ode.optimizer.steps
        self.model = copy.deepcopy(student).to(device).requires_grad_(True)
        self.text = text
        self.optimizer = Optimizer(self.model, recipe.ode.optimizer, peers)
        seed = peers.seed(recipe.seed * 1_000_099)
        self.bank = TrajectoryBank(source, codec, text, recipe.ode, teacher, recipe.stream.sigmas, seed)

    def step(self, step: int) -> dict[str, Tensor]:
        self._fill(step)
        loss = self._loss(step)
        norm = self.optimizer.step(loss, step)
        return {"loss": loss.detach(), "grad": norm}

    def _fill(self, step: int) -> None:
        """A few trajectories are replaced by new ones now and then."""
        bank = self.bank
        first = bank.capacity - bank.capacity % bank.group
        bank.hold(first + step // self.ode.refresh_every * self.ode.refresh)

    def _loss(self, step: int) -> Tensor:
        plan = self.ode
        generator = torch.Generator().manual_seed(self.peers.seed(self.recipe.seed * 1_000_003 + step))
        batch = self.bank.draw(plan.batch, plan.frames, generator)
        levels = len(self.recipe.stream.timesteps)
        ways = batch.latents.unflatten(1, (levels, -1))
        frames, height, width = ways.shape[3:]
        starts = tuple(self.recipe.chunks.starts(frames))
        drawn = torch.randint(levels, (plan.batch, len(starts)), generator=generator)
        index = of_frames(drawn, starts, frames).to(self.device, non_blocking=True)
        sigmas = torch.tensor(self.recipe.stream.sigmas).to(self.device, non_blocking=True)
        snapshots = take_snapshots(ways, sigmas, index)
        chunks = self.recipe.chunks
        visibility = Visibility(starts, window=chunks.window, sink=chunks.sink)
        with mixed(self.device):
            y, mask = features(self.text, batch.captions)
            context = self.model.condition(
                (frames, height, width), y, mask, *batch.cameras(self.recipe.size), visibility
            )
            velocity = self.model.denoise(snapshots.latents, 1000 * snapshots.sigma[:, None], context)
        return snapshots.loss(velocity)

    def state_tensors(self) -> dict[str, Tensor]:
        return {**{f"model.{k}": v for k, v in self.model.state_dict().items()}, **self.optimizer.state_tensors()}

    def load_state_tensors(self, state: dict[str, Tensor], step: int) -> None:
        self.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")})
        self.optimizer.load_state_tensors(state)

    def finished(self) -> SanaWMTransformer:
        """The averaged weights with steady heads."""
        self.optimizer.ema.copy_to(self.model)
        self._fill(self.steps)
        steady(self.model, lambda look: self._loss(self.steps + look), LOOKS, ROUNDS)
        return self.model.eval()
