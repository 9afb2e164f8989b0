"""Tensors to safetensors files of bounded size, with an index that tells each tensor's file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

Progress = Callable[[int, int], None]
"""(done, total) files: called after each."""


def plan_shards(sizes: Mapping[str, int], max_bytes: int | None) -> list[list[str]]:
    """Names of the tensors of each file, in the order of `sizes` (bytes by name).

    A file is closed before it would exceed `max_bytes`; a tensor that is larger has a file of its own.
    """
    shards: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        if max_bytes is not None and shards[-1] and held + size > max_bytes:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += size
    return shards


def write_shards(
    folder: Path,
    stem: str,
    sizes: Mapping[str, int],
    get: Callable[[str], Tensor],
    *,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write `<stem>.safetensors`, or `<stem>-00001-of-00002.safetensors`, ... and `<stem>.safetensors.index.json`.

    Tensors are asked for in the order of `sizes`, those of one file at a time, and let go when it is written.

    Args:
        sizes: bytes of every tensor by name.
        get: the tensor of a name.
    """
    folder.mkdir(exist_ok=True)
    shards = plan_shards(sizes, max_bytes)
    count = len(shards)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"{stem}.safetensors" if count == 1 else f"{stem}-{number:05d}-of-{count:05d}.safetensors"
        save_file(contiguous({name: get(name) for name in names}), folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
        if progress is not None:
            progress(number, count)
    if count > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        write_json(folder / f"{stem}.safetensors.index.json", index)


def tensor_sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of every tensor."""
    return {key: tensor.nbytes for key, tensor in state.items()}


def contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` as safetensors takes it: on the CPU, every tensor in one piece."""
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as an indented JSON file."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
