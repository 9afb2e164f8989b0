"""A student learns from what it makes of its own past: self-forcing with matched distributions (spec 51, section 4)."""

from __future__ import annotations

import copy
import random

import torch
from torch import Tensor

from sana_wm.engine.recorded import RecordedAdvance
from sana_wm.models.chunked import Advance, ChunkedModel
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.training.bank import LatentBatch
from sana_wm.training.clip_banks import ClipBanks
from sana_wm.training.distill_recipe import DistillRecipe
from sana_wm.training.distillation import clean_guess, guided_guess, match_distributions, rollout, score_sigma
from sana_wm.training.objective import Noised, add_noise, velocity_loss
from sana_wm.training.optim import Optimizer
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.scores import Score, features
from sana_wm.training.sources import ClipSource
from sana_wm.training.steady import LOOKS, ROUNDS, steady

CRITIC, GENERATOR = 0, 1
"""Both draw clips, noise and exit steps of their own in a step."""


class SelfForcingStage:
    """The student makes clips; a critic learns how they are distributed; where it and the teacher disagree, the
    student is moved towards the teacher.

    Args:
        recipe: this peer's part of it, with a part `self_forcing`.
        student, text: what the student begins with, and its text encoder, which stays as it is.
        teacher: stays as it is; the critic begins as a copy of it.
    """

    name = "self_forcing"

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
        assert recipe.self_forcing is not None
        self.recipe, self.forcing, self.device, self.peers = recipe, recipe.self_forcing, device, peers
        self.steps = recipe.self_forcing.critic.steps
        self.model = copy.deepcopy(student).to(device).requires_grad_(True)
        self.text, self.teacher = text, teacher
        critic = copy.deepcopy(teacher.transformer).requires_grad_(True)
        self.critic = Score(critic, teacher.text, teacher.size)
        self.generator_optimizer = Optimizer(self.model, recipe.self_forcing.generator, peers)
        self.critic_optimizer = Optimizer(critic, recipe.self_forcing.critic, peers)
        self._advance: Advance | None = RecordedAdvance(self.model)
        self.banks = ClipBanks(recipe.self_forcing, source, codec, text, seed=recipe.seed, peers=peers)

    def step(self, step: int) -> dict[str, Tensor]:
        found = self._critic_step(step)
        if (step + 1) % self.forcing.generator_every == 0:
            found |= self._generator_step(step)
        return found

    def _critic_step(self, step: int) -> dict[str, Tensor]:
        """The critic learns to denoise what the student makes."""
        batch, random_numbers = self._draw(step, CRITIC)
        with torch.no_grad():
            made = self.make(batch, step, CRITIC, random_numbers)
        noised, sigma = self._noised(made, random_numbers)
        velocity = self.critic.velocity(noised, batch)
        loss = velocity_loss(velocity, noised.target, (sigma > 0).float())
        norm = self.critic_optimizer.step(loss, step)
        return {"critic": loss.detach(), "critic_grad": norm, "frames": torch.tensor(batch.c2w.shape[1])}

    def _generator_step(self, step: int) -> dict[str, Tensor]:
        """The student moves along the difference of the two scores."""
        batch, random_numbers = self._draw(step, GENERATOR)
        learning = self._learning(batch.latents.shape[2], step)
        made = self.make(batch, step, GENERATOR, random_numbers, learning)
        with torch.no_grad():
            noised, sigma = self._noised(made.detach(), random_numbers)
            fake, real = (
                clean_guess(noised.latents, sigma, score.velocity(noised, batch))
                for score in (self.critic, self.teacher)
            )
            if self.forcing.real_guidance:
                empty = self.teacher.velocity(noised, batch, empty_prompt=True)
                real = guided_guess(real, clean_guess(noised.latents, sigma, empty), self.forcing.real_guidance)
        # The loss leaves out the first frame that it is given: the clip's own, or the last one before what is moved.
        bounds = (*self.recipe.chunks.starts(made.shape[2]), made.shape[2])
        span = slice(max(0, bounds[learning.start] - 1), bounds[learning.stop])
        matching = match_distributions(made[:, :, span], fake[:, :, span], real[:, :, span])
        norm = self.generator_optimizer.step(matching.loss, step)
        error = (made.detach() - batch.latents)[:, :, 1:].square().mean()
        return {
            "generator": matching.loss.detach(),
            "generator_grad": norm,
            "distance": matching.normalizer.mean(),
            "error": error,
        }

    def _learning(self, frames: int, step: int) -> range:
        """The chunks that a step of the student moves, the same for all peers."""
        count = len(self.recipe.chunks.starts(frames))
        length = min(count, self.forcing.learning_chunks or count)
        first = random.Random(self.recipe.seed * 6_271 + step).randrange(count - length + 1)
        return range(first, first + length)

    def make(
        self,
        batch: LatentBatch,
        step: int,
        whose: int,
        random_numbers: torch.Generator,
        learning: range | None = None,
    ) -> Tensor:
        """Clips (B, C, T, H, W) that the student makes from first frames, captions and cameras of `batch`.

        Args:
            learning: chunks that record gradients, where they are enabled; None is all.
        """
        noise = torch.randn(batch.latents.shape, generator=random_numbers, device=self.device)
        noise[:, :, :1] = batch.latents[:, :, :1]
        y, mask = features(self.text, batch.captions)
        frames, height, width = noise.shape[2:]
        chunks = self.recipe.chunks
        student = ChunkedModel(
            self.model, chunks, (frames, height, width), y, mask, batch.cameras(self.recipe.size), advance=self._advance
        )
        # All peers leave at the same step: they have the same work.
        exits = random.Random(self.recipe.seed * 7_907 + 2 * step + whose)
        exit_step = exits.randrange(len(self.recipe.stream.timesteps) - 1)

        def fresh(latents: Tensor) -> Tensor:
            return torch.randn(latents.shape, generator=random_numbers, device=self.device)

        return rollout(student, noise, self.recipe.stream.sigmas, chunks.starts(frames), exit_step, fresh, learning)

    def _draw(self, step: int, whose: int) -> tuple[LatentBatch, torch.Generator]:
        """The clips of half a step, and what all its noise comes from."""
        seed = self.peers.seed((self.recipe.seed * 1_000_033 + step) * 2 + whose)
        return self.banks.draw(step, whose), torch.Generator(self.device).manual_seed(seed)

    def _noised(self, made: Tensor, random_numbers: torch.Generator) -> tuple[Noised, Tensor]:
        """Made clips at the noise level of the scores, and that (B, T)."""
        index = torch.randint(1000, (len(made),), generator=random_numbers, device=self.device)
        plan = self.forcing
        sigma = score_sigma(index, made.shape[2], plan.score_shift, *plan.score_range)
        noise = torch.randn(made.shape, generator=random_numbers, device=self.device)
        return add_noise(made, sigma, noise), sigma

    def state_tensors(self) -> dict[str, Tensor]:
        parts = {
            "generator.model": self.model.state_dict(),
            "generator": self.generator_optimizer.state_tensors(),
            "critic.model": self.critic.transformer.state_dict(),
            "critic": self.critic_optimizer.state_tensors(),
        }
        return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}

    def load_state_tensors(self, state: dict[str, Tensor], step: int) -> None:
        pairs = (
            ("generator.", self.model, self.generator_optimizer),
            ("critic.", self.critic.transformer, self.critic_optimizer),
        )
        for who, model, optimizer in pairs:
            model.load_state_dict(_under(state, f"{who}model."))
            optimizer.load_state_tensors(_under(state, who))

    def finished(self) -> SanaWMTransformer:
        """The averaged weights of the student with steady heads."""
        self.generator_optimizer.ema.copy_to(self.model)
        self._advance = None  # what is replayed passes no module, where growth is looked at

        def look(number: int) -> None:
            batch, random_numbers = self._draw(self.steps + number, CRITIC)
            self.make(batch, self.steps + number, CRITIC, random_numbers)

        steady(self.model, look, LOOKS, ROUNDS)
        return self.model.eval()


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
