"""The published checkpoint layout (spec 10, section 2) as a function of the model's configuration.

`published_keys` lists every entry of the release's state dict: name, shape, parameter or buffer, and whether any
computation reads it. Entries that nothing reads are not parameters of our module; they are accepted and ignored on
loading, and written with harmless values on export, because the release looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from sana_wm.models.config import TransformerConfig
from sana_wm.models.embeddings import TimestepEmbedder
from sana_wm.models.init import BETA_BIAS, DT_BIAS

LEGACY_GRID = 22 * 22
"""Positions of `pos_embed`, a table left over from an earlier model of the same family."""

RAYMAP_CHANNELS = 3

POS_EMBED = "pos_embed"
"""In the release's state dict, but taken out of every file before it is loaded: never written by us."""

FLOAT32_LEAVES = frozenset({"A_log", "dt_bias", "latents_mean", "latents_std"})
"""Last name parts of tensors that stay float32 in any model dtype: decay rates and latent statistics lose too much in
bfloat16 (spec 10, section 11)."""


@dataclass(frozen=True)
class KeySpec:
    """One entry of the published state dict."""

    shape: tuple[int, ...]
    kind: Literal["parameter", "buffer"] = "parameter"
    used: bool = True

    @property
    def numel(self) -> int:
        return prod(self.shape)


def published_keys(config: TransformerConfig) -> dict[str, KeySpec]:
    """Every entry of the release's state dict for `config`; 872 entries for the 2.6B model."""
    keys = _top_level(config)
    for index in range(config.depth):
        for name, spec in block_keys(config, softmax=config.is_softmax(index)).items():
            keys[f"blocks.{index}.{name}"] = spec
    return keys


def block_keys(config: TransformerConfig, *, softmax: bool) -> dict[str, KeySpec]:
    """Entries of one block without the `blocks.{i}.` prefix (spec 10, section 2.2)."""
    d, heads, hidden = config.width, config.num_heads, config.mlp_hidden
    gates_used = not softmax
    keys = {"scale_shift_table": KeySpec((6, d)), **_linear("plucker_proj", d, d)}
    keys["attn.qkv.weight"] = KeySpec((3 * d, d))
    for name in ("proj", "output_gate", "q_proj_cam", "k_proj_cam", "v_proj_cam", "out_proj_cam"):
        keys |= _linear(f"attn.{name}", d, d)
    for name in ("q_norm", "k_norm", "q_norm_cam", "k_norm_cam"):
        keys[f"attn.{name}.weight"] = KeySpec((d,))
    for name in ("beta_proj", "gate_proj"):
        keys |= _linear(f"attn.{name}", d, heads, used=gates_used)
    for name in ("A_log", "dt_bias"):
        keys[f"attn.{name}"] = KeySpec((heads,), used=gates_used)
    keys["attn.recall_gate"] = KeySpec((1,), "buffer", used=False)
    if not softmax:
        for name in ("conv_k", "conv_k_cam"):
            keys[f"attn.{name}.weight"] = KeySpec((d, 1, config.conv_kernel))
    keys |= _linear("cross_attn.q_linear", d, d)
    keys |= _linear("cross_attn.kv_linear", d, 2 * d)
    keys |= _linear("cross_attn.proj", d, d)
    for name in ("q_norm", "k_norm"):
        keys[f"cross_attn.{name}.weight"] = KeySpec((d,))
    for name, shape in (("inverted_conv", (2 * hidden, d, 1, 1)), ("depth_conv", (2 * hidden, 1, 3, 3))):
        keys[f"mlp.{name}.conv.weight"] = KeySpec(shape)
        keys[f"mlp.{name}.conv.bias"] = KeySpec((2 * hidden,))
    keys["mlp.point_conv.conv.weight"] = KeySpec((d, hidden, 1, 1))
    keys["mlp.t_conv.weight"] = KeySpec((d, d, 3, 1))
    return keys


def ignored_keys(config: TransformerConfig) -> frozenset[str]:
    """Published entries that our module does not hold."""
    return frozenset(name for name, spec in published_keys(config).items() if not spec.used)


def harmless_value(key: str, spec: KeySpec) -> Tensor:
    """Initial value (spec 10, section 12) of an entry that nothing reads, float32."""
    parent, _, leaf = key.rpartition(".")
    if leaf == "dt_bias":
        return torch.full(spec.shape, DT_BIAS)
    if leaf == "bias" and parent.endswith("beta_proj"):
        return torch.full(spec.shape, BETA_BIAS)
    return torch.zeros(spec.shape)


def stays_float32(key: str) -> bool:
    """Whether the tensor called `key` is kept in float32 whatever the model's dtype."""
    return key.rpartition(".")[2] in FLOAT32_LEAVES


def _top_level(config: TransformerConfig) -> dict[str, KeySpec]:
    d, caption = config.width, config.caption_channels
    return {
        POS_EMBED: KeySpec((1, LEGACY_GRID, d), "buffer", used=False),
        **_point_conv("x_embedder.proj", config.in_channels, d),
        **_linear("t_embedder.mlp.0", TimestepEmbedder.FEATURES, d),
        **_linear("t_embedder.mlp.2", d, d),
        **_linear("t_block.1", d, 6 * d),
        "y_embedder.y_embedding": KeySpec((config.caption_tokens, caption), "buffer"),
        **_linear("y_embedder.y_proj.fc1", caption, d),
        **_linear("y_embedder.y_proj.fc2", d, d),
        "attention_y_norm.weight": KeySpec((d,)),
        **_point_conv("plucker_embedder.proj", config.plucker_channels, d),
        **_point_conv("raymap_embedder.proj", RAYMAP_CHANNELS, d, used=False),
        "final_layer.scale_shift_table": KeySpec((2, d)),
        **_linear("final_layer.linear", d, config.in_channels),
    }


def _linear(name: str, inputs: int, outputs: int, *, used: bool = True) -> dict[str, KeySpec]:
    return {f"{name}.weight": KeySpec((outputs, inputs), used=used), f"{name}.bias": KeySpec((outputs,), used=used)}


def _point_conv(name: str, inputs: int, outputs: int, *, used: bool = True) -> dict[str, KeySpec]:
    weight = KeySpec((outputs, inputs, 1, 1, 1), used=used)
    return {f"{name}.weight": weight, f"{name}.bias": KeySpec((outputs,), used=used)}
