"""The parts of a world model, and how each is read from and written to its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch

from sana_wm.checkpoints.assign import assign_weights
from sana_wm.checkpoints.weights import WeightFiles, counted
from sana_wm.errors import InputError, first_line
from sana_wm.models.config import NanoAutoencoderConfig, NanoTextConfig, PipelineSettings
from sana_wm.models.ltx2_tiling import Tiling
from sana_wm.models.ltx2_vae import Ltx2Codec, build_ltx2_vae
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.models.text import MAX_TOKENS, GemmaTextEncoder
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.settings import config_from_dict

Codec: TypeAlias = NanoAutoencoder | Ltx2Codec
TextEncoder: TypeAlias = NanoTextEncoder | GemmaTextEncoder

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")

@dataclass(frozen=True)
class GemmaSettings:
    """What model.json says of Gemma; see :class:`~sana_wm.models.text.GemmaTextEncoder`."""

    prefix: str = ""
    max_tokens: int = MAX_TOKENS
    attention_soft_cap: bool = False


@dataclass(frozen=True)
class Components:
    """A loaded world model."""

    transformer: SanaWMTransformer
    codec: Codec
    text_encoder: TextEncoder
    settings: PipelineSettings

    def __post_init__(self) -> None:
        config = self.transformer.config
        pairs = (
            ("latent channels", config.in_channels, "codec", self.codec.latent_channels),
            ("frames a latent", config.temporal_stride, "codec", self.codec.temporal_stride),
            ("caption channels", config.caption_channels, "text encoder", self.text_encoder.caption_channels),
            ("caption tokens", config.caption_tokens, "text encoder", self.text_encoder.max_tokens),
        )
        for what, wanted, part, found in pairs:
            if wanted != found:
                raise InputError(f"the transformer has {wanted} {what}, the {part} {found}; they belong to two models")


def codec_spec(codec: Codec) -> dict[str, Any]:
    """What model.json says of the codec."""
    if isinstance(codec, NanoAutoencoder):
        return {"kind": "nano", **asdict(codec.config)}
    return {"kind": "ltx2", "tiling": asdict(codec.tiling)}


def text_spec(encoder: TextEncoder) -> dict[str, Any]:
    """What model.json says of the text encoder."""
    if isinstance(encoder, NanoTextEncoder):
        return {"kind": "nano", **asdict(encoder.config)}
    return {"kind": "gemma", **{field.name: getattr(encoder, field.name) for field in fields(GemmaSettings)}}


def load_codec(spec: Mapping[str, Any], folder: Path, *, device: torch.device, dtype: torch.dtype, where: str) -> Codec:
    """The codec that `spec` (see :func:`codec_spec`) describes. The nano one is float32 in any `dtype`: its latents
    pass through.

    Raises:
        InputError: an unknown kind or setting, or weights that do not fit; `where` names the source of `spec`.
    """
    kind, values = _kind_of(spec, ("nano", "ltx2"), where)
    if kind == "ltx2":
        tiling = config_from_dict(Tiling, values.get("tiling", {}), f"{where}.tiling")
        return load_ltx2_codec(folder, device=device, dtype=dtype, tiling=tiling)
    with torch.device("meta"):
        codec = NanoAutoencoder(config_from_dict(NanoAutoencoderConfig, values, where))
    assign_weights(codec, WeightFiles.from_folder(folder), device=device, dtype=torch.float32)
    return codec.eval()


def load_text_encoder(
    spec: Mapping[str, Any], folder: Path, *, device: torch.device, dtype: torch.dtype, where: str
) -> TextEncoder:
    """The text encoder that `spec` (see :func:`text_spec`) describes; like :func:`load_codec`."""
    kind, values = _kind_of(spec, ("nano", "gemma"), where)
    if kind == "gemma":
        settings = config_from_dict(GemmaSettings, values, where)
        return load_gemma(folder, device=device, dtype=dtype, **asdict(settings))
    with torch.device("meta"):
        encoder = NanoTextEncoder(config_from_dict(NanoTextConfig, values, where))
    assign_weights(encoder, WeightFiles.from_folder(folder), device=device, dtype=torch.float32)
    return encoder.eval()


def load_ltx2_codec(
    folder: Path, *, device: torch.device, dtype: torch.dtype, tiling: Tiling = Tiling()  # noqa: B008 (frozen)
) -> Ltx2Codec:
    """The LTX-2 codec from a diffusers folder: config.json and safetensors.

    Raises:
        InputError: a file is missing, or the folder holds another VAE.
    """
    config = read_json(folder / "config.json")
    with torch.device("meta"):
        vae = build_ltx2_vae(config)
    assign_weights(vae, WeightFiles.from_folder(folder), device=device, dtype=dtype)
    return Ltx2Codec(vae.eval(), tiling).eval()


def load_gemma(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    prefix: str = "",
    max_tokens: int = MAX_TOKENS,
    attention_soft_cap: bool = False,
) -> GemmaTextEncoder:
    """Gemma-2 and its tokenizer from a transformers folder; see :class:`GemmaTextEncoder` for the options.

    Raises:
        InputError: a file is missing, or the folder holds another model.
    """
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "gemma2":
        raise InputError(f"{folder}: config.json describes a model of type {kind!r}; 'gemma2' was expected")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{folder} has no {' or '.join(TOKENIZER_FILES)}; Gemma's tokenizer must lie beside it")
    from transformers import AutoTokenizer, Gemma2Model

    WeightFiles.from_folder(folder)  # says what is wrong with the files before transformers does
    options = {"local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model, info = Gemma2Model.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, attn_implementation="eager", output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder} cannot be loaded as Gemma-2 ({first_line(error)})") from error
    if info["missing_keys"]:
        raise InputError(f"{folder}: weights that Gemma-2 needs are missing: {counted(info['missing_keys'])}")
    return GemmaTextEncoder(
        model.to(device), tokenizer, prefix=prefix, max_tokens=max_tokens, attention_soft_cap=attention_soft_cap
    ).eval()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}; a JSON object was expected")
    return content


def _kind_of(spec: Mapping[str, Any], kinds: tuple[str, ...], where: str) -> tuple[str, dict[str, Any]]:
    values = dict(spec)
    kind = values.pop("kind", None)
    if kind not in kinds:
        raise InputError(f"{where}: kind is {kind!r}; it must be one of {', '.join(kinds)}")
    return kind, values
