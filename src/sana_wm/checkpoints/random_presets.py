"""Sizes of the world models that can be made with random weights: all parts that the published layout has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sana_wm.checkpoints.published_config import BIDIRECTIONAL, PublishedConfig
from sana_wm.models.byte_tokenizer import VOCABULARY
from sana_wm.models.config import PIPELINES, TRANSFORMERS, TransformerConfig

INSTRUCTION = (
    "Describe the scene of the picture for a video:",
    "- what is there, near and far;",
    "- of what it is made, and how it is lit;",
    "- what moves by itself.",
    "Say nothing about the camera.",
    "Keep what the user says.",
    "",
    "User Prompt: ",
)
"""Stands in the place of the release's instruction prefix (1057 characters, spec 30 section 4.3): as many lines, and
with a token for every byte some 200 tokens, which is about what that has."""

LTX2_VAE: dict[str, Any] = {
    "latent_channels": 128,
    "block_out_channels": [256, 512, 1024, 2048],
    "layers_per_block": [4, 6, 6, 2, 2],
    "decoder_block_out_channels": [256, 512, 1024],
    "decoder_layers_per_block": [5, 5, 5, 5],
    "encoder_causal": True,
    "decoder_causal": False,
}
"""What of the LTX-2.0 config can differ between versions (spec 41, section 1)."""

GEMMA2_2B: dict[str, Any] = {
    "vocab_size": 256_000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
}


@dataclass(frozen=True)
class RandomPreset:
    """Sizes of one model.

    Attributes:
        model_name: in the release's way, which tells the number of blocks.
        height, width: of its pictures, in pixels.
        vae: fields of the config of `AutoencoderKLLTX2Video` that are not its defaults.
        text: the same of `Gemma2Config`.
    """

    transformer: TransformerConfig
    model_name: str
    height: int
    width: int
    vae: Mapping[str, Any]
    text: Mapping[str, Any]

    def published(self) -> PublishedConfig:
        """What `config.yaml` says of it."""
        return PublishedConfig(
            model_name=self.model_name,
            height=self.height,
            width=self.width,
            chi_prompt=INSTRUCTION,
            model_max_length=self.transformer.caption_tokens,
            caption_channels=self.transformer.caption_channels,
        )


def _small_vae(latent_channels: int, widths: tuple[int, int, int, int]) -> dict[str, Any]:
    return LTX2_VAE | {
        "latent_channels": latent_channels,
        "block_out_channels": list(widths),
        "layers_per_block": [1] * 5,
        "decoder_block_out_channels": list(widths[1:]),
        "decoder_layers_per_block": [1] * 4,
    }


def _small_gemma(channels: int, heads: int) -> dict[str, Any]:
    return GEMMA2_2B | {
        "vocab_size": VOCABULARY,
        "hidden_size": channels,
        "intermediate_size": 2 * channels,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": channels // heads,
        "query_pre_attn_scalar": channels // heads,
    }


RANDOM_PRESETS: dict[str, RandomPreset] = {
    "2.6b": RandomPreset(
        transformer=TRANSFORMERS["2.6b"],
        model_name=BIDIRECTIONAL,
        height=PIPELINES["2.6b"].height,
        width=PIPELINES["2.6b"].width,
        vae=LTX2_VAE,
        text=GEMMA2_2B,
    ),
    "nano": RandomPreset(
        transformer=TRANSFORMERS["nano"],
        model_name="SanaMSVideoCamCtrl_21M_P1_D8",
        height=PIPELINES["nano"].height,
        width=PIPELINES["nano"].width,
        vae=_small_vae(96, (32, 64, 128, 256)),
        text=_small_gemma(192, 4),
    ),
    "tiny": RandomPreset(
        transformer=TransformerConfig(
            depth=2, width=32, num_heads=2, in_channels=8, caption_channels=32, softmax_every_n=2
        ),
        model_name="SanaMSVideoCamCtrl_1M_P1_D2",
        height=64,
        width=96,
        vae=_small_vae(8, (8, 8, 16, 32)),
        text=_small_gemma(32, 2),
    ),
}
"""By name. "tiny" is for tests: a checkpoint in a second, a short video in a few. In the published layout a small
model has an LTX-2 VAE and Gemma of its own width, not the codec and the text encoder that nano is shipped with."""
