"""A world on disk: one safetensors file, which is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sana_wm.checkpoints.components import codec_spec, text_spec
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.staging import staged
from sana_wm.engine.stream_plan import checked
from sana_wm.engine.world_state import WorldState
from sana_wm.errors import InputError, first_line
from sana_wm.models.config import StreamSettings
from sana_wm.settings import config_from_dict

FORMAT, VERSION = "sana-wm world", 3
KEY = "world"
"""Entry of the file's metadata that holds everything but tensors, as JSON."""


def save_state(
    path: Path, pipe: SanaWMPipeline, plan: StreamSettings, state: WorldState, notes: Mapping[str, Any] | None = None
) -> Path:
    """Write a world; `notes` come back with it.

    Raises:
        InputError: the place cannot be written.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": _model(pipe),
        "plan": asdict(plan),
        "state": state.numbers(),
        "notes": dict(notes or {}),
    }
    tensors = {name: x.detach().cpu().contiguous().clone() for name, x in state.tensors().items()}
    with staged(path.parent) as folder:
        written = folder / path.name
        try:
            save_file(tensors, written, metadata={KEY: json.dumps(content, allow_nan=False)})
        except SafetensorError as error:  # of a full disk, for one
            raise InputError(f"world '{path}' cannot be written ({first_line(error)}).") from error
        with written.open("rb") as file:
            os.fsync(file.fileno())  # the name must not be there before the content is
    return path


def load_state(path: Path, pipe: SanaWMPipeline) -> tuple[StreamSettings, WorldState, dict[str, Any]]:
    """Plan, state and notes of a world that was saved with this model, on its device.

    Raises:
        InputError: there is no such file, it is damaged, or it belongs to another model or number format.
    """
    where = f"world '{path}'"
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {}).get(KEY, "null"))
            _check(content, pipe, where)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except InputError:
        raise
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{where} cannot be read ({first_line(error)}).") from error
    try:
        plan = checked(config_from_dict(StreamSettings, content.get("plan"), "plan"))
        state = WorldState.of(content.get("state") or {}, tensors)
    except InputError as error:
        raise InputError(f"{where} is damaged: {error}") from error
    # Copies, because the memory of a file is not aligned, and alignment can decide how products are rounded.
    moved = {name: x.clone() if name == "intrinsics" else x.to(pipe.device, copy=True) for name, x in tensors.items()}
    return plan, WorldState.of(state.numbers(), moved), dict(content.get("notes") or {})


def _check(content: Any, pipe: SanaWMPipeline, where: str) -> None:
    """Refuse a file that is no world, or not one of this model."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{where} is no saved world; give a file that World.save or --stream has written.")
    if content.get("version") != VERSION:
        raise InputError(f"{where} has version {content.get('version')!r}; this program reads version {VERSION}.")
    found, own = content.get("model"), _model(pipe)
    for part, value in own.items():
        other = found.get(part) if isinstance(found, dict) else None
        if other != value:
            raise InputError(f"{where} belongs to another model: its {part} is {_short(other)}, not {_short(value)}.")


def _model(pipe: SanaWMPipeline) -> dict[str, Any]:
    """What must be the same for a world to go on as if nothing had happened."""
    model = {
        "transformer": asdict(pipe.transformer.config),
        "codec": codec_spec(pipe.codec),
        "text encoder": text_spec(pipe.text_encoder),
        "picture size": [pipe.settings.width, pipe.settings.height],
        "number format": str(pipe.transformer.dtype).removeprefix("torch."),
        "weights": fingerprint(pipe),
    }
    return json.loads(json.dumps(model))  # as it comes back from a file: tuples are lists


def fingerprint(pipe: SanaWMPipeline) -> str:
    """A hash of the first and the last layer: cheap even for a large model, and no two trained ones have the same."""
    digest = hashlib.sha256()
    for weight in (pipe.transformer.x_embedder.proj.weight, pipe.transformer.final_layer.linear.weight):
        digest.update(weight.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
