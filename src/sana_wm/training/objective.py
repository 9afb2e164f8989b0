"""The flow-matching objective (spec 50, section 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Noised(NamedTuple):
    """A training example: what the network sees and what it should say."""

    latents: Tensor
    timesteps: Tensor
    target: Tensor


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Move noise levels towards 1: s u / (1 + (s - 1) u)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def draw_sigma(batch: int, shift: float, generator: torch.Generator) -> Tensor:
    """(B,) logit-normal noise levels, shifted; on the generator's device."""
    normal = torch.randn(batch, generator=generator, device=generator.device)
    return shift_sigma(torch.sigmoid(normal), shift)


def add_noise(clean: Tensor, sigma: Tensor, noise: Tensor) -> Noised:
    """x = (1 - sigma) x0 + sigma eps with target eps - x0, all in float32.

    Args:
        clean: (B, C, T, H, W) latents.
        sigma: (B, T) noise level of each frame; 0 leaves a frame clean.
    """
    level = sigma[:, None, :, None, None]
    return Noised((1 - level) * clean + level * noise, 1000 * sigma[:, None], noise - clean)


def velocity_loss(velocity: Tensor, target: Tensor, frame_weight: Tensor) -> Tensor:
    """Mean square error over the frames that count, per sample, then over the batch.

    Args:
        frame_weight: (B, T), 1 where a frame is supervised.
    """
    return sample_losses(velocity, target, frame_weight).mean()


def sample_losses(velocity: Tensor, target: Tensor, frame_weight: Tensor) -> Tensor:
    """(B,) of :func:`velocity_loss`."""
    error = (velocity.float() - target).square().mean(dim=(1, 3, 4))
    return (error * frame_weight).sum(1) / (frame_weight.sum(1) + 1e-6)
