"""Embeddings of latents, Plücker maps, timesteps and captions (spec 10, section 3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.ops.norm import rms_norm


class PatchEmbed(nn.Module):
    """One token per latent pixel: (B, C, T, H, W) -> (B, T, S, width)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(3).permute(0, 2, 3, 1).to(self.proj.weight.dtype)
        return F.linear(tokens, self.proj.weight.flatten(1), self.proj.bias)


class TimestepEmbedder(nn.Module):
    """Sinusoidal features of a timestep in 0..1000, then two layers."""

    FEATURES = 256

    def __init__(self, width: int, *, truncate: bool) -> None:
        super().__init__()
        self.truncate = truncate
        self.mlp = nn.Sequential(nn.Linear(self.FEATURES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep: Tensor) -> Tensor:
        """(...,) -> (..., width)."""
        timestep = timestep.long().float() if self.truncate else timestep.float()
        half = self.FEATURES // 2
        # The angles are float32 products on purpose: the released weights saw exactly these.
        frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=timestep.device) / half)
        angles = timestep[..., None] * frequencies
        features = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(features.to(self.mlp.get_parameter("0.weight").dtype))


class CaptionMlp(nn.Module):
    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, y: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(y), approximate="tanh"))


class CaptionEmbedder(nn.Module):
    """Caption features to model width; holds the features of the null prompt for training."""

    y_embedding: Tensor

    def __init__(self, channels: int, tokens: int, width: int) -> None:
        super().__init__()
        self.register_buffer("y_embedding", torch.zeros(tokens, channels))
        self.y_proj = CaptionMlp(channels, width)

    def forward(self, y: Tensor) -> Tensor:
        return self.y_proj(y.to(self.y_proj.fc1.weight.dtype))


class RMSNorm(nn.Module):
    """RMS normalisation over all channels with a gain, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """float32 out, so that what follows keeps its precision."""
        return rms_norm(x, self.weight, self.eps)
