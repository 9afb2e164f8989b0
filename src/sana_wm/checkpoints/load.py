"""World models from a name, a directory or the Hugging Face hub.

A *model directory* is ours (`model.json` with folders `dit`, `vae`, `text_encoder`) or a published one (`config.yaml`
with `dit`, and `vae` and `text_encoder` where they are not fetched from the repositories that the config names).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sana_wm.checkpoints.assign import assign_weights
from sana_wm.checkpoints.components import (
    Components,
    load_codec,
    load_gemma,
    load_ltx2_codec,
    load_text_encoder,
    read_json,
)
from sana_wm.checkpoints.derive import derive_transformer_config
from sana_wm.checkpoints.hub import MODEL_FILES, SCHEME, TEXT_FILES, VAE_FILES, download, parse_hub_id
from sana_wm.checkpoints.layout import POS_EMBED, ignored_keys
from sana_wm.checkpoints.published_config import read_published_config
from sana_wm.checkpoints.weights import WeightFiles, refuse_pickle
from sana_wm.errors import InputError
from sana_wm.models.config import PipelineSettings, TransformerConfig
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.settings import config_from_dict

BUNDLED = "nano"
BUNDLED_DIRECTORY = Path(__file__).parent / "nano"
MODEL_JSON = "model.json"
CONFIG_YAML = "config.yaml"
TRANSFORMER_JSON = "config.json"
FORMAT = "sana-wm"
VERSION = 1


def default_dtype(device: torch.device) -> torch.dtype:
    """What a model computes in where nobody says."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load_components(
    source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Components:
    """Load a world model.

    Args:
        source: "nano" (the model in this package), a model directory, or `owner/repo[@revision]` on the Hugging Face
            hub. A directory that exists wins over a repository of the same name.
        dtype: of the transformer, the LTX-2 codec and Gemma; None is bfloat16 on CUDA and float32 elsewhere. The
            small parts of nano are float32 always.

    Raises:
        InputError: there is no such model, or its files do not fit together.
    """
    device = torch.device(device)
    dtype = dtype or default_dtype(device)
    folder = find_model(source)
    if (folder / MODEL_JSON).is_file():
        return _load_ours(folder, device, dtype)
    return _load_published(folder, device, dtype)


def load_transformer(
    path: Path, config: TransformerConfig, *, device: torch.device, dtype: torch.dtype
) -> SanaWMTransformer:
    """The transformer from a safetensors file or a folder of them, published or ours, in eval mode.

    It is built without memory and then filled tensor by tensor from the mapped files.

    Raises:
        InputError: as :func:`~sana_wm.checkpoints.assign.assign_weights`.
    """
    return _fill_transformer(WeightFiles.from_path(path), config, device, dtype)


def find_model(source: str | Path) -> Path:
    """The model directory that `source` means, downloaded if need be; see :func:`load_components`."""
    text = str(source)
    if text == BUNDLED:
        if not (BUNDLED_DIRECTORY / MODEL_JSON).is_file():
            raise InputError("the weights of nano are not in this installation; install a release, or name another")
        return BUNDLED_DIRECTORY
    folder = Path(source).expanduser()
    if folder.is_file():
        refuse_pickle(folder)
        raise InputError(f"{folder} is a file; the directory of the model was expected")
    hub_id = None if folder.is_dir() else parse_hub_id(text)
    if hub_id is not None:
        folder = download(hub_id, MODEL_FILES)
    elif not folder.is_dir():
        raise InputError(f"there is no model {text!r}; 'nano', a directory or a repository 'owner/repo' was expected")
    _check_directory(folder, text)
    return folder


def _check_directory(folder: Path, name: str) -> None:
    if (folder / MODEL_JSON).is_file() or ((folder / CONFIG_YAML).is_file() and (folder / "dit").is_dir()):
        return
    for path in sorted((*folder.glob("*"), *folder.glob("*dit/*"))):
        refuse_pickle(path)
    wanted = f"{MODEL_JSON}, or {CONFIG_YAML} and dit/*.safetensors"
    raise InputError(f"{name} is not a model directory; {wanted}, was looked for in it")


def _load_ours(folder: Path, device: torch.device, dtype: torch.dtype) -> Components:
    where = str(folder / MODEL_JSON)
    description = read_json(folder / MODEL_JSON)
    if (description.get("format"), description.get("version")) != (FORMAT, VERSION):
        found = f"{description.get('format')!r} version {description.get('version')!r}"
        raise InputError(f"{where} says it is {found}; {FORMAT!r} version {VERSION} can be read")
    sections = {name: _section(description, name, where) for name in ("transformer", "codec", "text", "pipeline")}
    config = config_from_dict(TransformerConfig, sections["transformer"], f"{where}: transformer")
    settings = config_from_dict(PipelineSettings, sections["pipeline"], f"{where}: pipeline")
    return Components(
        transformer=load_transformer(folder / "dit", config, device=device, dtype=dtype),
        codec=load_codec(sections["codec"], folder / "vae", device=device, dtype=dtype, where=f"{where}: codec"),
        text_encoder=load_text_encoder(
            sections["text"], folder / "text_encoder", device=device, dtype=dtype, where=f"{where}: text"
        ),
        settings=settings,
    )


def _load_published(folder: Path, device: torch.device, dtype: torch.dtype) -> Components:
    published = read_published_config(folder / CONFIG_YAML)
    settings = published.settings()
    dit = folder / "dit"
    weights = WeightFiles.from_folder(dit)
    config = derive_transformer_config(weights.shapes(), published, str(dit))
    if (dit / TRANSFORMER_JSON).is_file():
        # Ours: it keeps what shapes cannot tell, such as the softmax scales a model was trained with.
        config = config_from_dict(TransformerConfig, read_json(dit / TRANSFORMER_JSON), str(dit / TRANSFORMER_JSON))
    # All files are found before the first large one is read.
    vae = _folder_or_repository(folder / "vae", published.vae_pretrained, VAE_FILES, published.vae_folder)
    text = _folder_or_repository(folder / "text_encoder", published.text_encoder_repo, TEXT_FILES, "")
    return Components(
        transformer=_fill_transformer(weights, config, device, dtype),
        codec=load_ltx2_codec(vae, device=device, dtype=dtype),
        text_encoder=load_gemma(
            text, device=device, dtype=dtype, prefix=published.prefix, max_tokens=published.model_max_length
        ),
        settings=settings,
    )


def _fill_transformer(
    weights: WeightFiles, config: TransformerConfig, device: torch.device, dtype: torch.dtype
) -> SanaWMTransformer:
    with torch.device("meta"):
        transformer = SanaWMTransformer(config)
    ignored = ignored_keys(config) | {POS_EMBED}
    assign_weights(transformer, weights, device=device, dtype=dtype, ignored=ignored)
    return transformer.eval()


def _folder_or_repository(folder: Path, source: str, patterns: tuple[str, ...], subfolder: str) -> Path:
    if folder.is_dir():
        return folder
    local = Path(source).expanduser() / subfolder
    if not source.startswith(SCHEME) and local.is_dir():
        return local
    hub_id = parse_hub_id(source)
    if hub_id is None:
        raise InputError(f"there is no {folder}, and {source!r} in config.yaml is neither a directory nor 'owner/repo'")
    return download(hub_id, patterns) / subfolder


def _section(description: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    section = description.get(name)
    if not isinstance(section, dict):
        raise InputError(f"{where}: section {name!r} is {section!r}; an object was expected")
    return section
