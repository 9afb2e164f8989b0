"""A transformer's configuration from the shapes of its weights, checked against what `config.yaml` says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from sana_wm.checkpoints.published_config import PublishedConfig
from sana_wm.checkpoints.weights import counted
from sana_wm.errors import InputError
from sana_wm.models.config import TransformerConfig

_BLOCK = re.compile(r"blocks\.(\d+)\.")
PADDED_HEAD_DIMS = (32, 64, 128, 256)
"""Head widths that the release's attention takes as they are; others are padded to 128 or 256."""

RANKS = {
    "x_embedder.proj.weight": 5,
    "y_embedder.y_embedding": 2,
    "plucker_embedder.proj.weight": 5,
    "blocks.0.mlp.point_conv.conv.weight": 4,
}
"""Weights that give the model's size, and the sides that they have."""

Shapes = Mapping[str, tuple[int, ...]]


def derive_transformer_config(shapes: Shapes, published: PublishedConfig, where: str) -> TransformerConfig:
    """Configuration of the published weights with these `shapes`, with the release's semantics: of a streaming model
    those of July (spec 20, section 3.6), which scales by the true width of a head.

    Raises:
        InputError: weights that give a size are missing, or `published` says something else than they do; `where`
            names the file.
    """
    missing = [key for key in RANKS if key not in shapes]
    if missing:
        raise InputError(f"{where}: weights that give the model's size are missing: {counted(missing)}")
    unlike = [key for key in RANKS if len(shapes[key]) != RANKS[key] or 0 in shapes[key]]
    if unlike:
        raise InputError(f"{where}: {unlike[0]} is {shapes[unlike[0]]}; {RANKS[unlike[0]]} sides above 0 were expected")
    width, in_channels = shapes["x_embedder.proj.weight"][:2]
    tokens, caption_channels = shapes["y_embedder.y_embedding"]
    depth = len({match[1] for key in shapes if (match := _BLOCK.match(key))})
    heads = _heads(shapes, where)
    hidden = shapes["blocks.0.mlp.point_conv.conv.weight"][1]
    kernels = [shape[-1] for key, shape in shapes.items() if key.endswith(".attn.conv_k.weight") and shape]
    config = TransformerConfig(
        depth=depth,
        width=width,
        num_heads=heads,
        in_channels=in_channels,
        caption_channels=caption_channels,
        caption_tokens=tokens,
        softmax_every_n=_softmax_period(shapes, depth, where),
        mlp_ratio=_ratio(hidden, width),
        conv_kernel=kernels[0] if kernels else TransformerConfig.conv_kernel,
        temporal_stride=shapes["plucker_embedder.proj.weight"][1] // 6,
        softmax_scale_cam=None if published.streams else padded_head_dim(width // heads) ** -0.5,
    )
    said = {
        "depth": (published.depth, depth),
        "caption_channels": (published.caption_channels, caption_channels),
        "model_max_length": (published.model_max_length, tokens),
        "softmax_every_n": (published.softmax_every_n, config.softmax_every_n),
    }
    for name, (expected, found) in said.items():
        if expected is not None and expected != found:
            raise InputError(f"{where}: config.yaml says {name} {expected}, but the weights have {found}")
    return config


def padded_head_dim(head_dim: int) -> int:
    """Head width to which the release pads camera attention, whose square root then scales its logits (spec 10,
    section 9)."""
    if head_dim in PADDED_HEAD_DIMS:
        return head_dim
    return 128 if head_dim < 128 else 256


def _heads(shapes: Shapes, where: str) -> int:
    """From the gates, which softmax blocks may or may not have."""
    for key, shape in shapes.items():
        if key.endswith(".attn.beta_proj.weight") and len(shape) == 2 and shape[0] > 0:
            return shape[0]
    raise InputError(f"{where}: no block has attn.beta_proj.weight, which gives the number of heads")


def _softmax_period(shapes: Shapes, depth: int, where: str) -> int:
    """The n for which exactly the blocks n-1, 2n-1, ... lack the convolution that GDN blocks have."""
    softmax = [i for i in range(depth) if f"blocks.{i}.attn.conv_k.weight" not in shapes]
    period = softmax[0] + 1 if softmax else depth + 1
    if softmax != list(range(period - 1, depth, period)):
        raise InputError(f"{where}: blocks {softmax} are softmax blocks; every n-th block was expected to be")
    return period


def _ratio(hidden: int, width: int) -> float:
    """A ratio whose product with `width`, cut to an integer, is `hidden` again."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)
