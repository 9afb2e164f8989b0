"""A world model with all real parts, untrained and so small that a video takes a fraction of a second."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from sana_wm.checkpoints.components import Components
from sana_wm.models.config import NanoAutoencoderConfig, NanoTextConfig, PipelineSettings, TransformerConfig
from sana_wm.models.init import init_transformer
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.models.transformer import SanaWMTransformer

SETTINGS = PipelineSettings(
    height=32, width=48, fps=16, num_frames=17, num_inference_steps=2, guidance_scale=1.0, flow_shift=3.0
)


def tiny_components(settings: PipelineSettings = SETTINGS) -> Components:
    """The same weights every time. The camera and text paths are not silent, as they are in a fresh model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = SanaWMTransformer(
            TransformerConfig(
                depth=2, width=32, num_heads=2, in_channels=8, caption_channels=24, caption_tokens=16, softmax_every_n=2
            )
        )
        codec = NanoAutoencoder(NanoAutoencoderConfig(latent_channels=8, widths=(64, 32, 16)))
        text = NanoTextEncoder(NanoTextConfig(channels=24, heads=2, max_tokens=16))
    generator = torch.Generator().manual_seed(0)
    init_transformer(transformer, generator)
    for name, weight in transformer.named_parameters():
        if "out_proj_cam" in name or "plucker_embedder" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return Components(transformer.eval(), codec.eval(), text.eval(), settings)


def picture(width: int = 60, height: int = 32) -> Image.Image:
    """A picture whose corners, rows and columns all differ."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack((255 * x / max(1, width - 1), 255 * y / max(1, height - 1), (x * 7 + y * 13) % 256), axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))
