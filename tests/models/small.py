"""A transformer of a few thousand weights with every path open, and inputs for it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.geometry.poses import relative_to_first
from sana_wm.models.config import TransformerConfig
from sana_wm.models.init import init_transformer
from sana_wm.models.transformer import SanaWMTransformer

CONFIG = TransformerConfig(
    depth=4,
    width=32,
    num_heads=2,
    in_channels=4,
    caption_channels=12,
    caption_tokens=6,
    softmax_every_n=2,
    mlp_ratio=2.0,
    truncate_timesteps=False,
)


def fresh(config: TransformerConfig = CONFIG, seed: int = 0) -> SanaWMTransformer:
    """As training from scratch starts it."""
    model = SanaWMTransformer(config)
    init_transformer(model, torch.Generator().manual_seed(seed))
    return model


@torch.no_grad()
def trained(config: TransformerConfig = CONFIG, seed: int = 0) -> SanaWMTransformer:
    """With what a fresh model starts at zero moved away from there."""
    model = fresh(config, seed).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    silent = ("out_proj_cam", "plucker_embedder", "t_conv", "beta_proj", "gate_proj", "output_gate", "conv_k", "norm")
    for name, weight in model.named_parameters():
        if any(part in name for part in silent) or name.endswith("bias"):
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model


@dataclass(frozen=True)
class Inputs:
    """Arguments of a forward pass, in its order."""

    x: Tensor
    timestep: Tensor
    y: Tensor
    mask: Tensor | None
    camera_conditions: Tensor | None
    chunk_plucker: Tensor | None

    def all(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))

    def item(self, i: int) -> Inputs:
        """The i-th sample, as a batch of one."""
        return Inputs(*(None if t is None else t[i : i + 1] for t in self.all()))  # type: ignore[arg-type]

    def with_(self, **changes: Tensor | None) -> Inputs:
        return Inputs(**{**{f.name: getattr(self, f.name) for f in fields(self)}, **changes})  # type: ignore[arg-type]

    def to(self, dtype: torch.dtype) -> Inputs:
        """Latents and captions in `dtype`; noise levels and cameras stay float32."""
        return self.with_(x=self.x.to(dtype), y=self.y.to(dtype))


def cameras(batch: int, frames: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Turning, drifting cameras, each sample its own: camera_conditions and chunk_plucker of `frames` latent frames."""
    g = torch.Generator().manual_seed(seed)
    num = 8 * (frames - 1) + 1
    time = torch.arange(num)
    angle = time * 0.02 * (1 + torch.rand(batch, 1, generator=g))
    c2w = torch.eye(4).repeat(batch, num, 1, 1)
    c2w[..., 0, 0], c2w[..., 0, 2] = angle.cos(), angle.sin()
    c2w[..., 2, 0], c2w[..., 2, 2] = -angle.sin(), angle.cos()
    c2w[..., :3, 3] = time[:, None] * 0.05 * torch.randn(batch, 1, 3, generator=g)
    target = (16 * height, 16 * width)
    intrinsics = torch.tensor([0.9 * target[1], 0.9 * target[1], target[1] / 2, target[0] / 2]).expand(batch, num, 4)
    arguments = (relative_to_first(c2w), intrinsics, target, (height, width))
    return camera_conditions(*arguments), chunk_plucker(*arguments)


def inputs(batch: int = 2, frames: int = 3, height: int = 3, width: int = 5, *, seed: int = 0) -> Inputs:
    """Frame 0 clean, the others at a noise level of their own; captions of different lengths."""
    g = torch.Generator().manual_seed(seed)
    timestep = 1000 * torch.rand(batch, 1, frames, generator=g)
    timestep[..., 0] = 0
    lengths = 2 + torch.arange(batch) % (CONFIG.caption_tokens - 1)
    return Inputs(
        torch.randn(batch, CONFIG.in_channels, frames, height, width, generator=g),
        timestep,
        torch.randn(batch, 1, CONFIG.caption_tokens, CONFIG.caption_channels, generator=g),
        (torch.arange(CONFIG.caption_tokens) < lengths[:, None]).long(),
        *cameras(batch, frames, height, width, seed),
    )
