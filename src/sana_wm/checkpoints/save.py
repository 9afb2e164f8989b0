"""World models to directories: our layout, and the published one for the release to read.

A directory is written beside its place and then renamed, so that an interrupted save leaves either the old one or
nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sana_wm.checkpoints.components import Components, codec_spec, text_spec
from sana_wm.checkpoints.layout import POS_EMBED, harmless_value, published_keys, stays_float32
from sana_wm.checkpoints.load import CONFIG_YAML, FORMAT, MODEL_JSON, TRANSFORMER_JSON, VERSION
from sana_wm.checkpoints.published_config import PublishedConfig, write_published_config
from sana_wm.checkpoints.quantize import METADATA, quantize_state
from sana_wm.checkpoints.replacing import replacing
from sana_wm.checkpoints.shards import contiguous, tensor_sizes, write_json, write_shards
from sana_wm.errors import InputError
from sana_wm.models.config import TransformerConfig
from sana_wm.models.ltx2_vae import Ltx2Codec
from sana_wm.models.text import GemmaTextEncoder
from sana_wm.models.transformer import SanaWMTransformer

Storage = Literal["full", "int8"]
MODEL_FILE = "model.safetensors"
PUBLISHED_NAME = "sana_wm_1600m_720p"


def save_pretrained(
    folder: Path, components: Components, *, storage: Storage = "full", overwrite: bool = False
) -> None:
    """Write a model directory of ours, for :func:`~sana_wm.checkpoints.load.load_components`.

    Args:
        storage: "full" keeps the dtypes in memory; "int8" stores the transformer and nano parts in eight bits (see
            `quantize`).

    Raises:
        InputError: `folder` is there, not empty, and `overwrite` is off.
    """
    description = {
        "format": FORMAT,
        "version": VERSION,
        "transformer": asdict(components.transformer.config),
        "codec": codec_spec(components.codec),
        "text": text_spec(components.text_encoder),
        "pipeline": asdict(components.settings),
    }
    with replacing(folder, overwrite) as new:
        _save_module(new / "dit", components.transformer, storage)
        if isinstance(components.codec, Ltx2Codec):
            components.codec.vae.save_pretrained(new / "vae", safe_serialization=True)
        else:
            _save_module(new / "vae", components.codec, storage)
        if isinstance(components.text_encoder, GemmaTextEncoder):
            components.text_encoder.model.save_pretrained(new / "text_encoder")
            components.text_encoder.tokenizer.save_pretrained(new / "text_encoder")
        else:
            _save_module(new / "text_encoder", components.text_encoder, storage)
        write_json(new / MODEL_JSON, description)


def save_published(
    folder: Path,
    transformer: SanaWMTransformer,
    published: PublishedConfig,
    *,
    codec: Ltx2Codec | None = None,
    dtype: torch.dtype | None = None,
    name: str = PUBLISHED_NAME,
    max_shard_bytes: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write `config.yaml`, `dit/<name>.safetensors` and, given an LTX-2 `codec`, `vae/`, as the release reads them.

    The weights hold every published key but `pos_embed`, with harmless values for those that nothing reads.
    `dit/config.json` keeps our own configuration; the release does not look at it.

    Args:
        dtype: of the file; None keeps the dtypes in memory. Decay rates stay float32.
        max_shard_bytes: split the weights into files of about this size with an index beside them; None is one file.

    Raises:
        InputError: `folder` is there, not empty, and `overwrite` is off, or `published` describes another model, or
            cannot describe this one.
    """
    config = transformer.config
    if (published.depth, published.caption_channels, published.model_max_length) != (
        config.depth,
        config.caption_channels,
        config.caption_tokens,
    ):
        raise InputError(
            f"the published config is of {published.depth} blocks and captions of {published.model_max_length} x "
            f"{published.caption_channels}; the transformer has {config.depth} and {config.caption_tokens} x "
            f"{config.caption_channels}"
        )
    usual = TransformerConfig()
    for field in ("key_scale", "camera_paths"):
        if getattr(config, field) != getattr(usual, field):
            found = getattr(config, field)
            raise InputError(f"the transformer has {field} {found!r}, which the published layout cannot say")
    with replacing(folder, overwrite) as new:
        write_published_config(new / CONFIG_YAML, published, config)
        state = published_state(transformer, dtype)
        write_shards(new / "dit", name, tensor_sizes(state), state.__getitem__, max_bytes=max_shard_bytes)
        write_json(new / "dit" / TRANSFORMER_JSON, asdict(config))
        if codec is not None:
            codec.vae.save_pretrained(new / "vae", safe_serialization=True)


def published_state(transformer: SanaWMTransformer, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The release's state dict without `pos_embed`: 871 entries for the 2.6B model; see :func:`save_published`."""
    state = transformer.state_dict()
    complete: dict[str, Tensor] = {}
    for key, spec in published_keys(transformer.config).items():
        if key == POS_EMBED:
            continue
        tensor = state[key] if spec.used else harmless_value(key, spec).to(transformer.dtype)
        target = torch.float32 if stays_float32(key) else dtype
        complete[key] = tensor if target is None else tensor.to(target)
    return complete


def _save_module(folder: Path, module: nn.Module, storage: Storage) -> None:
    folder.mkdir()
    if storage == "int8":
        save_file(contiguous(quantize_state(module.state_dict())), folder / MODEL_FILE, metadata=METADATA)
    else:
        save_file(contiguous(module.state_dict()), folder / MODEL_FILE, metadata={"storage": "full"})
