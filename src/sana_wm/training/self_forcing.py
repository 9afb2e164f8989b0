"""A student learns from what it makes of its own past: self-forcing with matched distributions (spec 51, section 4)."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sana_wm.engine.recorded import RecordedAdvance
from sana_wm.models.chunked import Advance, ChunkedModel
from sana_wm.models.history import History
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.training.bank import LatentBatch
from sana_wm.training.clip_banks import ClipBanks
from sana_wm.training.distill_recipe import DistillRecipe
from sana_wm.training.distillation import clean_guess, guided_guess, match_distributions, rollout, score_sigma
from sana_wm.training.lasting import Group, LastingWorlds
from sana_wm.training.objective import Noised, add_noise, velocity_loss
from sana_wm.training.optim import Optimizer
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.scores import Score, features
from sana_wm.training.sources import ClipSource
from sana_wm.training.steady import LOOKS, ROUNDS, steady

CRITIC, GENERATOR = 0, 1
"""Both draw clips, noise and exit steps of their own in a step."""


@dataclass(frozen=True)
class Shown:
    """What critic and teacher see of what the student made.

    Attributes:
        batch: its latents, with gradients where those are recorded, and cameras and captions.
        span: the latents that the student is moved by, behind one that it is not.
        random_numbers: what is drawn on comes from these.
        age: frames from the beginning of the clip or world to the end of what was made.
        truth: latents of the clips whose first frames were given; None where nothing is true.
    """

    batch: LatentBatch
    span: slice
    random_numbers: torch.Generator
    age: int
    truth: Tensor | None = None


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
        lasting = recipe.self_forcing.lasting
        self.worlds: LastingWorlds | None = None
        if lasting is not None:
            self.worlds = LastingWorlds(lasting, source, self.banks, recipe.chunks.size, recipe.seed, peers)

    def step(self, step: int) -> dict[str, Tensor]:
        found = self._critic_step(step)
        if (step + 1) % self.forcing.generator_every == 0:
            found |= self._generator_step(step)
        return found

    def _critic_step(self, step: int) -> dict[str, Tensor]:
        """The critic learns to denoise what the student makes."""
        with torch.no_grad():
            shown = self._show(step, CRITIC)
        noised, sigma = self._noised(shown)
        velocity = self.critic.velocity(noised, shown.batch)
        loss = velocity_loss(velocity, noised.target, (sigma > 0).float())
        norm = self.critic_optimizer.step(loss, step)
        return {"critic": loss.detach(), "critic_grad": norm, "frames": torch.tensor(shown.age)}

    def _generator_step(self, step: int) -> dict[str, Tensor]:
        """The student moves along the difference of the two scores."""
        shown = self._show(step, GENERATOR)
        made = shown.batch.latents
        with torch.no_grad():
            noised, sigma = self._noised(shown)
            fake, real = (
                clean_guess(noised.latents, sigma, score.velocity(noised, shown.batch))
                for score in (self.critic, self.teacher)
            )
            if self.forcing.real_guidance:
                empty = self.teacher.velocity(noised, shown.batch, empty_prompt=True)
                real = guided_guess(real, clean_guess(noised.latents, sigma, empty), self.forcing.real_guidance)
        span = shown.span
        matching = match_distributions(made[:, :, span], fake[:, :, span], real[:, :, span])
        norm = self.generator_optimizer.step(matching.loss, step)
        found = {
            "generator": matching.loss.detach(),
            "generator_grad": norm,
            "distance": matching.normalizer.mean(),
        }
        if shown.truth is not None:
            found["error"] = (made.detach() - shown.truth)[:, :, 1:].square().mean()
        return found

    def _show(self, step: int, whose: int) -> Shown:
        """Let the student make what half a step is taken on."""
        seed = self.peers.seed((self.recipe.seed * 1_000_033 + step) * 2 + whose)
        random_numbers = torch.Generator(self.device).manual_seed(seed)
        group = None if self.worlds is None else self.worlds.draw(step, whose)
        if group is not None:
            return self._go_on(group, step, whose, random_numbers)
        batch = self.banks.draw(step, whose)
        frames = batch.latents.shape[2]
        learning = self._learning(frames, step)
        made, _ = self._make(batch, step, whose, random_numbers, learning)
        # The loss leaves out the first frame that it is given: the clip's own, or the last one before what is moved.
        bounds = (*self.recipe.chunks.starts(frames), frames)
        span = slice(max(0, bounds[learning.start] - 1), bounds[learning.stop])
        return Shown(replace(batch, latents=made), span, random_numbers, batch.c2w.shape[1], batch.latents)

    def _go_on(self, group: Group, step: int, whose: int, random_numbers: torch.Generator) -> Shown:
        """Add to worlds that may be minutes old."""
        assert self.forcing.lasting is not None
        size = self.recipe.chunks.size
        clip = group.next(size * self.forcing.lasting.chunks)
        made, history = self._make(clip, step, whose, random_numbers, history=group.history)
        seen = group.seen(made, clip)
        group.go_on(made, clip, history, size * self.forcing.lasting.before)
        span = slice(max(0, seen.latents.shape[2] - made.shape[2] - 1), None)
        return Shown(seen, span, random_numbers, group.poses + 1)

    def _learning(self, frames: int, step: int) -> range:
        """The chunks that a step of the student moves, the same for all peers."""
        count = len(self.recipe.chunks.starts(frames))
        length = min(count, self.forcing.learning_chunks or count)
        first = random.Random(self.recipe.seed * 6_271 + step).randrange(count - length + 1)
        return range(first, first + length)

    def _make(
        self,
        batch: LatentBatch,
        step: int,
        whose: int,
        random_numbers: torch.Generator,
        learning: range | None = None,
        history: History | None = None,
    ) -> tuple[Tensor, History]:
        """Clips (B, C, T, H, W) that the student makes from first frames, captions and cameras of `batch`, and what it
        remembers after them.

        Args:
            learning: chunks that record gradients, where they are enabled; None is all.
            history: what it remembers of what `batch` follows.
        """
        noise = torch.randn(batch.latents.shape, generator=random_numbers, device=self.device)
        if history is None:
            noise[:, :, :1] = batch.latents[:, :, :1]
        y, mask = features(self.text, batch.captions)
        frames, height, width = noise.shape[2:]
        student = ChunkedModel(
            self.model, self.recipe.chunks, (frames, height, width), y, mask, batch.cameras(self.recipe.size),
            advance=self._advance, history=history,
        )  # fmt: skip
        starts = [first for first, _ in student.bounds]
        # All peers leave at the same step: they have the same work.
        exits = random.Random(self.recipe.seed * 7_907 + 2 * step + whose)
        exit_step = exits.randrange(len(self.recipe.stream.timesteps) - 1)

        def fresh(latents: Tensor) -> Tensor:
            return torch.randn(latents.shape, generator=random_numbers, device=self.device)

        sigmas = self.recipe.stream.sigmas
        made = rollout(student, noise, sigmas, starts, exit_step, fresh, learning, first_given=history is None)
        assert student.history is not None  # because there is a chunk
        return made, student.history

    def _noised(self, shown: Shown) -> tuple[Noised, Tensor]:
        """What was made at the noise level of the scores, and that (B, T)."""
        made, plan, random_numbers = shown.batch.latents.detach(), self.forcing, shown.random_numbers
        index = torch.randint(1000, (len(made),), generator=random_numbers, device=self.device)
        first_given = not shown.batch.is_piece
        sigma = score_sigma(index, made.shape[2], plan.score_shift, *plan.score_range, first_given=first_given)
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
        self.worlds = None  # clips tell enough

        def look(number: int) -> None:
            self._show(self.steps + number, CRITIC)

        steady(self.model, look, LOOKS, ROUNDS)
        return self.model.eval()


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
