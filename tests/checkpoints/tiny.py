"""Small real models for the tests of this folder."""

from __future__ import annotations

import torch
from torch import nn

from sana_wm.checkpoints.components import Components
from sana_wm.models.config import NanoAutoencoderConfig, NanoTextConfig, TransformerConfig
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.models.transformer import SanaWMTransformer
from tests.engine.tiny import SETTINGS

CONFIG = TransformerConfig(
    depth=4,
    width=32,
    num_heads=2,
    in_channels=8,
    caption_channels=24,
    caption_tokens=9,
    softmax_every_n=2,
    mlp_ratio=2.5,
)


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and buffer a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return module.eval()


def tiny_transformer(config: TransformerConfig = CONFIG) -> SanaWMTransformer:
    model = SanaWMTransformer(config)
    randomized(model)
    return model


def tiny_components() -> Components:
    codec = NanoAutoencoder(
        NanoAutoencoderConfig(latent_channels=8, widths=(32, 16, 8), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1))
    )
    text = NanoTextEncoder(NanoTextConfig(channels=24, layers=1, heads=2, stride=4, max_tokens=9))
    randomized(codec, 1)
    codec.latents_std.abs_().add_(0.5)
    randomized(text, 2)
    return Components(tiny_transformer(), codec, text, SETTINGS)


def forward(model: SanaWMTransformer) -> torch.Tensor:
    """One pass with every input, the same for the same weights."""
    generator = torch.Generator().manual_seed(7)
    config = model.config
    camera = torch.zeros(1, 3, 20)
    camera[:, :, :16] = torch.eye(4).flatten()
    camera[:, :, 16:] = torch.tensor([2.0, 2.0, 1.5, 1.0])
    camera[:, :, 3] = torch.tensor([0.0, 0.3, 0.6])
    dtype = model.dtype
    with torch.no_grad():
        return model(
            torch.randn(1, config.in_channels, 3, 2, 3, generator=generator).to(dtype),
            torch.tensor([[[0.0, 500.0, 500.0]]]),
            torch.randn(1, 1, config.caption_tokens, config.caption_channels, generator=generator).to(dtype),
            torch.tensor([[1] * 5 + [0] * (config.caption_tokens - 5)]),
            camera,
            torch.randn(1, config.plucker_channels, 3, 2, 3, generator=generator).to(dtype),
        )
