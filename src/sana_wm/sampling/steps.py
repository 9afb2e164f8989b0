"""What every sampler shares: the shapes it takes, per-frame times, and what is checked after each step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.sampling.schedules import sigma_timesteps

VelocityFn = Callable[[Tensor, Tensor], Tensor]
"""(latents (B,C,T,H,W) float32, timesteps (B,1,T) float32) -> velocity (B,C,T,H,W); guidance is already in it."""

OnStep = Callable[[int, int, Tensor], None]
"""(steps done 1..n, n, latents (B,C,T,H,W)): called after each step; whatever it raises ends the sampling."""


class SamplingError(RuntimeError):
    """The latents stopped being numbers; the message names the step."""


def start(latents: Tensor, sigmas: Tensor, clean_frames: Tensor) -> tuple[Tensor, list[float], Tensor]:
    """Checks the arguments of a sampler and puts them in the form it works with.

    Returns latents as float32 (bfloat16 between the steps loses what a small step adds), sigmas as numbers of double
    precision on the host, and the clean frames as a (1,1,T,1,1) mask beside the latents.
    """
    if latents.ndim != 5:
        raise InputError(f"latents has the shape {tuple(latents.shape)}; it must be (B, C, T, H, W)")
    if clean_frames.dtype != torch.bool or clean_frames.shape != latents.shape[2:3]:
        raise InputError(
            f"clean_frames is {clean_frames.dtype} of the shape {tuple(clean_frames.shape)}; "
            f"it must be bool of the shape ({latents.shape[2]},), one value a latent frame"
        )
    times: list[float] = sigmas.double().tolist()
    falling = all(after < before for before, after in pairwise(times))
    if len(times) < 2 or not falling or times[-1] != 0 or times[0] > 1:
        raise InputError(f"sigmas is {times}; it must fall strictly from at most 1 to exactly 0")
    return latents.float(), times, clean_frames.to(latents.device).view(1, 1, -1, 1, 1)


def frame_timesteps(latents: Tensor, sigma: float | Tensor, clean: Tensor) -> Tensor:
    """(B,1,T) float32 timesteps: 1000 * sigma (a number, or one a frame (T,)), and 0 for the clean frames."""
    frames = torch.as_tensor(sigma, dtype=torch.float64).expand(latents.shape[2])
    timesteps = sigma_timesteps(frames).to(latents.device).masked_fill(clean.flatten(), 0.0)
    return timesteps.expand(latents.shape[0], 1, -1).contiguous()


def finish_step(latents: Tensor, step: int, num_steps: int, on_step: OnStep | None) -> None:
    """Refuses latents that are not finite after step `step` (from 1) of `num_steps`, then tells `on_step`.

    Raises SamplingError: further steps would only turn one bad number into a black video.
    """
    if not torch.isfinite(latents).all():
        raise SamplingError(
            f"the latents are not finite after step {step} of {num_steps}; "
            "the weights may be damaged, or the number format too narrow for this model"
        )
    if on_step is not None:
        on_step(step, num_steps, latents)
