"""The Euler sampler with a timestep for every frame, reference of the bidirectional model (spec 21-samplers.md, 3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from sana_wm.sampling.steps import OnStep, VelocityFn, finish_step, frame_timesteps, start


def flow_euler_ltx(
    velocity_fn: VelocityFn,
    latents: Tensor,
    sigmas: Tensor,
    *,
    clean_frames: Tensor,
    on_step: OnStep | None = None,
) -> Tensor:
    """Follows dx/dsigma = v from `sigmas[0]` to 0 in len(sigmas) - 1 network calls.

    latents (B,C,T,H,W): noise, with the clean frames already in place. clean_frames (T,) bool: these have timestep 0 in
    every call and come back bit for bit; with none of them this is the plain `flow_euler`.
    Returns float32 latents. Raises SamplingError as soon as a step gives anything that is not finite.
    """
    latents, times, clean = start(latents, sigmas, clean_frames)
    num_steps = len(times) - 1
    for step, (sigma, following) in enumerate(pairwise(times)):
        velocity = velocity_fn(latents, frame_timesteps(latents, sigma, clean)).float()
        latents = torch.where(clean, latents, latents - (sigma - following) * velocity)
        finish_step(latents, step + 1, num_steps, on_step)
    return latents
