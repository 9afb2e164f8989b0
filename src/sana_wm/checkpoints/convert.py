"""The published streaming checkpoint, a pickle, to a model directory of safetensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from sana_wm.checkpoints.assign import all_finite
from sana_wm.checkpoints.derive import derive_transformer_config
from sana_wm.checkpoints.layout import POS_EMBED, published_keys, stays_float32
from sana_wm.checkpoints.load import CONFIG_YAML, TRANSFORMER_JSON
from sana_wm.checkpoints.pickled import read_pickled
from sana_wm.checkpoints.published_config import PublishedConfig, read_published_config, write_published_config
from sana_wm.checkpoints.replacing import check_disk, check_free, replacing
from sana_wm.checkpoints.shards import Progress, as_dtype, shard_bytes, write_json, write_shards
from sana_wm.checkpoints.weights import counted
from sana_wm.errors import InputError
from sana_wm.models.config import TransformerConfig

STREAMING_NAME = "sana_wm_streaming_1600m_720p"
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def convert_pickled(
    source: Path,
    folder: Path,
    *,
    config: Path | None = None,
    dtype: str | None = None,
    shard_gb: float = 4.0,
    progress: Progress | None = None,
) -> PublishedConfig:
    """Write `config.yaml` and `dit/` for :func:`~sana_wm.checkpoints.load.load_components`; returns what it says.

    Text encoder and video codec are not in it: they come from where `config.yaml` says, or from folders `text_encoder`
    and `vae` that are put beside.

    Args:
        source: the pickle; see :func:`~sana_wm.checkpoints.pickled.read_pickled`.
        config: the release's `config.yaml` of the model; None is the released streaming model's settings, with sizes
            from the weights and no instruction in front of prompts.
        dtype: of the files, a name of `shards.DTYPES`; None keeps that of every tensor. Decay rates stay float32.
        shard_gb: largest sum of a file's tensors, in 10^9 bytes.

    Raises:
        InputError: a tensor is missing, unknown, of another shape or not finite, `config` is of another model, or
            `folder` is not empty or too small. Nothing is written then.
    """
    check_free(folder)
    asked = None if dtype is None else as_dtype(dtype)
    checkpoint = read_pickled(source)
    weights, where = checkpoint.weights, str(source)
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    published = _streaming(shapes) if config is None else read_published_config(config)
    if not published.streams:
        sampler = published.vis_sampler
        raise InputError(f"{config}: {published.model_name} is sampled by {sampler!r}; it does not stream")
    if checkpoint.timesteps:
        # A student works on the steps it was distilled on, whatever its family usually takes (spec 51).
        published = replace(published, denoising_step_list=checkpoint.timesteps)
    published.settings()
    transformer = derive_transformer_config(shapes, published, where)
    kept = _checked(shapes, transformer, where)
    kinds = {key: torch.float32 if stays_float32(key) else asked or weights[key].dtype for key in kept}
    sizes = {key: weights[key].numel() * kind.itemsize for key, kind in kinds.items()}
    max_bytes = shard_bytes(shard_gb, sizes)
    check_disk(folder, sum(sizes.values()))

    def get(key: str) -> Tensor:
        tensor = weights[key].to(kinds[key], copy=True)
        if not all_finite(tensor):
            raise InputError(f"{where}: {key} holds NaN or infinity as {tensor.dtype}; the file is damaged")
        return tensor

    with replacing(folder) as new:
        write_published_config(new / CONFIG_YAML, published, transformer)
        write_shards(new / "dit", STREAMING_NAME, sizes, get, max_bytes=max_bytes, progress=progress)
        write_json(new / "dit" / TRANSFORMER_JSON, asdict(transformer))
    return published


def _streaming(shapes: Mapping[str, tuple[int, ...]]) -> PublishedConfig:
    """The released streaming model's settings for weights of these shapes."""
    depth = len({match[1] for key in shapes if (match := _BLOCK.match(key))})
    tokens, channels = (*shapes.get("y_embedder.y_embedding", ()), 0, 0)[:2]
    return PublishedConfig.streaming(depth, model_max_length=tokens, caption_channels=channels)


def _checked(shapes: Mapping[str, tuple[int, ...]], config: TransformerConfig, where: str) -> list[str]:
    """Names to write, in the layout's order; what the release drops on loading is dropped here."""
    known = published_keys(config)
    missing = {key for key, spec in known.items() if spec.used and key not in shapes}
    if missing:
        raise InputError(f"{where}: weights that the model needs are missing: {counted(missing)}")
    unknown = shapes.keys() - known.keys()
    if unknown:
        raise InputError(f"{where}: weights that the model does not have: {counted(unknown)}")
    wrong = {key for key, shape in shapes.items() if key != POS_EMBED and known[key].shape != shape}
    if wrong:
        key = min(wrong)
        raise InputError(
            f"{where}: weights of another shape: {counted(wrong)}; {key} is {shapes[key]} and must be "
            f"{known[key].shape}"
        )
    return [key for key in known if key in shapes and key != POS_EMBED]
