"""World models with random weights in the published layout: for tests of loading, memory and speed.

A directory is what a download of the release is, but for its content: `config.yaml`, `dit`, and beside them the `vae`
and `text_encoder` that the release's config names. Nothing in it comes from somewhere else: the tokenizer and the
instruction prefix are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sana_wm.checkpoints.load import CONFIG_YAML
from sana_wm.checkpoints.published_config import write_published_config
from sana_wm.checkpoints.random_presets import RANDOM_PRESETS, RandomPreset
from sana_wm.checkpoints.replacing import check_disk, check_free, replacing
from sana_wm.checkpoints.save import PUBLISHED_NAME, published_state
from sana_wm.checkpoints.shards import as_dtype, plan_shards, shard_bytes, tensor_sizes, write_json, write_shards
from sana_wm.errors import InputError
from sana_wm.models.byte_tokenizer import byte_tokenizer
from sana_wm.models.config import TransformerConfig
from sana_wm.models.init import init_transformer
from sana_wm.models.ltx2_vae import build_ltx2_vae
from sana_wm.models.transformer import SanaWMTransformer

RANDOM_JSON = "random.json"
"""Says in the directory that its weights are random, and how they were made; nothing reads it."""

MAX_SEED = 2**63 - 1

Progress = Callable[[str, int, int], None]
"""(part, done, total) files: called at 0, before anything of the part is drawn, and after each file."""


def save_random(
    folder: Path,
    preset: str,
    *,
    seed: int = 0,
    dtype: str = "bfloat16",
    shard_gb: float = 4.0,
    progress: Progress | None = None,
) -> None:
    """Write a model directory in the published layout, for :func:`~sana_wm.checkpoints.load.load_components`.

    The same arguments give the same bytes; the size of the files decides nothing but that. The transformer is in
    memory as a whole while it is written; of the VAE and of Gemma, only the tensors of one file are.

    Args:
        preset: a name of `RANDOM_PRESETS`.
        dtype: of the files, a name of `shards.DTYPES`. Decay rates of the transformer stay float32.
        shard_gb: largest sum of a file's tensors, in 10^9 bytes.

    Raises:
        InputError: `folder` is there and not empty, its disk is too small, or an argument is out of range.
    """
    check_free(folder)
    chosen = _choose(preset, seed)
    kind = as_dtype(dtype)
    with torch.device("meta"):
        vae = build_ltx2_vae(chosen.vae)
        gemma = _build_gemma(chosen.text)
    # Gemma's names are those of one with a language head, whose weights are the embedding's: so it is published.
    parts = (
        _transformer_part(chosen.transformer, kind),
        _drawn_part("vae", "diffusion_pytorch_model", vae, kind),
        _drawn_part("text_encoder", "model", gemma, kind, prefix="model."),
    )
    max_bytes = shard_bytes(shard_gb, {f"{part.folder}: {key}": n for part in parts for key, n in part.sizes.items()})
    check_disk(folder, sum(sum(part.sizes.values()) for part in parts))
    generator = torch.Generator().manual_seed(seed)
    with replacing(folder) as new:
        write_published_config(new / CONFIG_YAML, chosen.published(), chosen.transformer)
        for part in parts:
            _write(new, part, generator, max_bytes, progress)
        vae.save_config(new / "vae")
        gemma.config.save_pretrained(new / "text_encoder")
        byte_tokenizer().save_pretrained(new / "text_encoder")
        how = {"preset": preset, "seed": seed, "dtype": dtype, "shard_gb": shard_gb}
        write_json(new / RANDOM_JSON, {"weights": "random, made by `sana-wm convert --random`"} | how)


@torch.no_grad()
def random_transformer(config: TransformerConfig, dtype: torch.dtype, generator: torch.Generator) -> SanaWMTransformer:
    """The weights that training starts from, with the branches opened that are silent then.

    A fresh model does not listen to its camera nor over time; every matrix that is zero for that gets weights small
    enough for the branch to add to the main one instead of drowning it.
    """
    with torch.device("meta"):
        model = SanaWMTransformer(config).to(dtype)
    model.to_empty(device="cpu")
    init_transformer(model, generator)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not bool(parameter.any()):
            parameter.normal_(0, 0.5 * _fan_in(parameter) ** -0.5, generator=generator)
    return model.eval()


def draw(key: str, outline: Tensor, generator: torch.Generator) -> Tensor:
    """A tensor of the VAE or of Gemma like `outline`: matrices and kernels of unit gain, biases of zero.

    Gains of Gemma are stored as what they differ from one, so zero suits them too. The VAE's statistics of latents
    are near those of normal latents, and different for every channel.
    """
    tensor = torch.empty(outline.shape, dtype=outline.dtype)
    if key == "latents_mean":
        return tensor.normal_(0, 0.2, generator=generator)
    if key == "latents_std":
        return tensor.uniform_(0.5, 1.5, generator=generator)
    if tensor.ndim == 1:
        return tensor.zero_()
    return tensor.normal_(0, _fan_in(tensor) ** -0.5, generator=generator)


def _fan_in(weight: Tensor) -> int:
    return weight[0].numel()


@dataclass(frozen=True)
class _Part:
    """A folder of weights.

    Attributes:
        stem: of its files.
        sizes: bytes of each tensor, in the order in which they are drawn.
        begin: called when its turn has come; returns what gives a tensor by name.
    """

    folder: str
    stem: str
    sizes: Mapping[str, int]
    begin: Callable[[torch.Generator], Callable[[str], Tensor]]


def _transformer_part(config: TransformerConfig, dtype: torch.dtype) -> _Part:
    with torch.device("meta"):
        outline = published_state(SanaWMTransformer(config).to(dtype), dtype)

    def begin(generator: torch.Generator) -> Callable[[str], Tensor]:
        return published_state(random_transformer(config, dtype, generator), dtype).__getitem__

    return _Part("dit", PUBLISHED_NAME, tensor_sizes(outline), begin)


def _drawn_part(folder: str, stem: str, module: nn.Module, dtype: torch.dtype, prefix: str = "") -> _Part:
    outline = {prefix + key: tensor.to(dtype) for key, tensor in module.state_dict().items()}

    def begin(generator: torch.Generator) -> Callable[[str], Tensor]:
        return lambda key: draw(key, outline[key], generator)

    return _Part(folder, stem, tensor_sizes(outline), begin)


def _write(new: Path, part: _Part, generator: torch.Generator, max_bytes: int, progress: Progress | None) -> None:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(part.folder, done, total)

    report(0, len(plan_shards(part.sizes, max_bytes)))
    tensors = part.begin(generator)
    write_shards(new / part.folder, part.stem, part.sizes, tensors, max_bytes=max_bytes, progress=report)


def _build_gemma(config: Mapping[str, Any]) -> Any:
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(Gemma2Config(**config, architectures=["Gemma2ForCausalLM"]))


def _choose(preset: str, seed: int) -> RandomPreset:
    if preset not in RANDOM_PRESETS:
        raise InputError(f"preset is {preset!r}; it must be one of {', '.join(RANDOM_PRESETS)}")
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed is {seed}; it must be from 0 to {MAX_SEED}")
    return RANDOM_PRESETS[preset]
