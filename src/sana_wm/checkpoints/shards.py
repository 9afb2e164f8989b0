"""Tensors to safetensors files of bounded size, with an index that tells each tensor's file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sana_wm.checkpoints.replacing import GIGABYTE
from sana_wm.errors import InputError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""What files may be asked to hold."""

Progress = Callable[[int, int], None]
"""(done, total) files: called after each."""


def as_dtype(name: str) -> torch.dtype:
    """The dtype called so; raises an :class:`InputError` if it is none of `DTYPES`."""
    if name not in DTYPES:
        raise InputError(f"dtype is {name!r}; it must be one of {', '.join(DTYPES)}")
    return DTYPES[name]


def shard_bytes(shard_gb: float, sizes: Mapping[str, int]) -> int:
    """Bytes of `shard_gb`, in 10^9; raises an :class:`InputError` if it is no number, or less than one of `sizes`."""
    if not (math.isfinite(shard_gb) and shard_gb > 0):
        raise InputError(f"shard_gb is {shard_gb}; it must be a positive number of gigabytes")
    name, size = max(sizes.items(), key=lambda item: item[1])
    if size > shard_gb * GIGABYTE:
        raise InputError(f"shard_gb is {shard_gb}; it must be at least {size / GIGABYTE}, the size of {name}")
    return int(shard_gb * GIGABYTE)


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
