"""One chunk of a video after another: few steps each, against a past of finished chunks (spec 21-samplers.md, 5)."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from sana_wm.sampling.euler import flow_euler_ltx
from sana_wm.sampling.steps import OnStep, VelocityFn, finish_step, frame_timesteps, start


class ChunkModel(Protocol):
    """A model with a past. It knows which chunk is next, its prompt and its cameras."""

    def velocity(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Of the next chunk: latents (B,C,n,H,W) and timesteps (B,1,n) to (B,C,n,H,W). The past stays as it is."""

    def remember(self, latents: Tensor) -> None:
        """The next chunk has come out as `latents`, and from now on is part of the past."""


def flow_renoise(
    velocity_fn: VelocityFn,
    latents: Tensor,
    sigmas: Tensor,
    *,
    clean_frames: Tensor,
    generator: torch.Generator,
    on_step: OnStep | None = None,
) -> Tensor:
    """Every step goes all the way to x0 = x - sigma v, and back up with fresh noise: how a student is trained.

    Arguments and result as of `flow_euler_ltx`; the noise comes from `generator`, on its device.
    """
    latents, times, clean = start(latents, sigmas, clean_frames)
    num_steps = len(times) - 1
    for step, (sigma, following) in enumerate(pairwise(times)):
        velocity = velocity_fn(latents, frame_timesteps(latents, sigma, clean)).float()
        x0 = latents - sigma * velocity
        if following > 0:
            noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents.device)
            x0 = (1 - following) * x0 + following * noise
        latents = torch.where(clean, latents, x0)
        finish_step(latents, step + 1, num_steps, on_step)
    return latents


def next_chunk(
    model: ChunkModel,
    noise: Tensor,
    sigmas: Tensor,
    *,
    clean_frames: Tensor,
    renoise: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """The next chunk of a video as latents (B,C,n,H,W) float32, which the model has remembered.

    noise: (B,C,n,H,W), with the clean frames in place; clean_frames: (n,) bool. Without `renoise` steps follow the
    velocity, as in the release; with it they are those of `flow_renoise`. Remembering costs one call more.
    """
    if renoise is None:
        latents = flow_euler_ltx(model.velocity, noise, sigmas, clean_frames=clean_frames, on_step=on_step)
    else:
        latents = flow_renoise(
            model.velocity, noise, sigmas, clean_frames=clean_frames, generator=renoise, on_step=on_step
        )
    model.remember(latents)
    return latents
