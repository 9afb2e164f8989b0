"""Classifier-free guidance in one batch (spec 21-samplers.md, 1.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.sampling.steps import VelocityFn


def needs_uncond(guidance_scale: float) -> bool:
    """Whether guidance at this scale takes the unconditional half of the batch as well."""
    if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
        raise InputError(f"guidance_scale is {guidance_scale}; it must be a number of at least 0 (1 or less is none)")
    return guidance_scale > 1.0


def guided(model_fn: VelocityFn, guidance_scale: float) -> VelocityFn:
    """A velocity function with guidance: `v_u + s (v_c - v_u)`, for all frames alike.

    For s > 1 `model_fn` is called once with a batch of 2 B, the unconditional items first: whoever binds text, masks,
    cameras and Plücker maps into it lays them out as [uncond, cond]. For s <= 1 it is called with the B conditional
    items alone. `needs_uncond` says which of the two it will be.
    """
    if not needs_uncond(guidance_scale):
        return model_fn

    def velocity_fn(latents: Tensor, timesteps: Tensor) -> Tensor:
        both = model_fn(torch.cat([latents, latents]), torch.cat([timesteps, timesteps])).float()
        uncond, cond = both.chunk(2)
        return uncond + guidance_scale * (cond - uncond)

    return velocity_fn
