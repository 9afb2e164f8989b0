"""The losses of distillation: trajectories of a teacher, rollouts of a student, distributions (spec 51, 3 and 4).

Latents are (B, C, T, H, W) float32. Frame 0 is given: it is clean in every example and never supervised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sana_wm.sampling import ChunkModel
from sana_wm.training.objective import shift_sigma

Fresh = Callable[[Tensor], Tensor]
"""Latents -> noise of their shape: what is drawn between two steps of a rollout."""


# ---- trajectories of a teacher


@dataclass(frozen=True)
class Snapshots:
    """Frames on a teacher's trajectory: latents, sigma (B,T) of each frame, and the clean end of the trajectory."""

    latents: Tensor
    sigma: Tensor
    clean: Tensor

    def guess(self, velocity: Tensor) -> Tensor:
        """The clean latents that a velocity points to."""
        return self.latents - _per_frame(self.sigma) * velocity.float()

    def loss(self, velocity: Tensor) -> Tensor:
        """Mean square error of the guess over all frames of the batch that are not clean; 0 if all are."""
        error = (self.guess(velocity) - self.clean).square().mean(dim=(1, 3, 4))
        counted = (self.sigma > 0).float()
        return (error * counted).sum() / counted.sum().clamp_min(1)


def take_snapshots(trajectory: Tensor, sigmas: Tensor, index: Tensor, first_frame: Tensor | None = None) -> Snapshots:
    """One snapshot a frame.

    Args:
        trajectory: (B, K, C, T, H, W), noisiest first, the last clean.
        sigmas: (K,) their noise levels.
        index: (B, T) which of them each frame has; frame 0 gets the clean one whatever is said.
        first_frame: (B, C, 1, H, W) that stands for frame 0; None is that of the trajectory.
    """
    index = index.clone()
    index[:, 0] = len(sigmas) - 1
    shape = trajectory[:, :1].shape
    latents = trajectory.gather(1, index[:, None, None, :, None, None].expand(shape))[:, 0].float()
    clean = trajectory[:, -1].float()
    if first_frame is not None:
        latents[:, :, :1] = first_frame
    return Snapshots(latents, sigmas.to(latents)[index], clean)


# ---- rollouts of a student


def rollout(
    student: ChunkModel,
    noise: Tensor,
    sigmas: Sequence[float],
    starts: Sequence[int],
    exit_step: int,
    fresh: Fresh,
    learning: range | None = None,
) -> Tensor:
    """A clip that the student makes chunk by chunk from its own past, as (B, C, T, H, W).

    Every chunk leaves after step `exit_step` (from 0) with the clean latents that step guesses. Only this call of each
    chunk records gradients (where they are enabled at all): neither earlier steps nor the past do, so nothing is
    propagated through time.

    Args:
        noise: with the given first frame in place. sigmas: falling, the last 0. starts: first frames of the chunks.
        fresh: noise for the next step.
        learning: indices of the chunks that record gradients; None is all.
    """
    made = []
    for chunk, (first, end) in enumerate(pairwise((*starts, noise.shape[2]))):
        learns = torch.is_grad_enabled() and (learning is None or chunk in learning)
        latents = noise[:, :, first:end]
        given = (torch.arange(first, end, device=noise.device) == 0)[:, None, None]
        for step in range(exit_step + 1):
            timesteps = (1000 * sigmas[step] * ~given[:, 0, 0]).expand(len(noise), 1, -1)
            with torch.set_grad_enabled(learns and step == exit_step):
                velocity = student.velocity(latents, timesteps)
                guess = torch.where(given, latents, latents - sigmas[step] * velocity.float())
            if step < exit_step:
                following = sigmas[step + 1]
                renoised = (1 - following) * guess + following * fresh(guess)
                latents = torch.where(given, latents, renoised)
        student.remember(guess.detach())
        made.append(guess)
    return torch.cat(made, 2)


# ---- matching of distributions


def score_sigma(index: Tensor, frames: int, shift: float, low: float, high: float) -> Tensor:
    """(B, T) noise levels at which two scores are compared: one a clip, frame 0 clean (section 4.3).

    Args:
        index: (B,) drawn from 0 ... 999. low, high: smallest and largest sigma.
    """
    sigma = shift_sigma(index / 1000, shift).clamp(low, high)[:, None].repeat(1, frames)
    sigma[:, 0] = 0
    return sigma


@dataclass(frozen=True)
class Matching:
    """What the distribution-matching loss is made of (section 4.3).

    Attributes:
        loss: its gradient with respect to the generated latents is `gradient` over the number of elements that count.
        gradient: (B, C, T, H, W). normalizer: (B,) mean distance of the latents from the real guess.
    """

    loss: Tensor
    gradient: Tensor
    normalizer: Tensor


def match_distributions(generated: Tensor, fake: Tensor, real: Tensor) -> Matching:
    """Move generated latents from where the critic expects them to where the teacher does.

    Args:
        generated: with gradients. fake, real: clean guesses of critic and teacher from the same noised latents.
    """
    with torch.no_grad():
        normalizer = (generated - real).abs().mean(dim=(1, 2, 3, 4)).clamp_min(1e-6)
        gradient = ((fake - real) / normalizer.view(-1, 1, 1, 1, 1)).nan_to_num()
        target = generated - gradient
    loss = 0.5 * (generated - target)[:, :, 1:].square().mean()
    return Matching(loss, gradient, normalizer)


def guided_guess(conditional: Tensor, unconditional: Tensor | None, scale: float) -> Tensor:
    """The teacher's guess pushed away from that without the prompt: c + scale (c - u), a guidance scale of 1 + scale.

    None for the second is the same as a scale of 0.
    """
    return conditional if unconditional is None else conditional + scale * (conditional - unconditional)


def clean_guess(noisy: Tensor, sigma: Tensor, velocity: Tensor) -> Tensor:
    """x - sigma v; sigma (B, T)."""
    return noisy - _per_frame(sigma) * velocity.float()


def _per_frame(sigma: Tensor) -> Tensor:
    return sigma[:, None, :, None, None]
