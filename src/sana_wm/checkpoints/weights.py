"""Safetensors files as one lazy mapping from names to tensors.

Nothing is read but headers until a tensor is asked for; a tensor that needs no conversion is a view of the
memory-mapped file. Pickles are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sana_wm.checkpoints.quantize import METADATA, SCALE_SUFFIX, dequantize
from sana_wm.errors import InputError

FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
INT8 = "I8"
PREFIX = "model."
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
SHOWN = 5


def counted(names: Iterable[str]) -> str:
    """`names` for an error: how many, and the first few."""
    names = sorted(names)
    rest = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{rest})"


def refuse_pickle(path: Path) -> None:
    """Raise an :class:`InputError` if `path` is a pickle by its name."""
    if path.suffix in PICKLES:
        raise InputError(
            f"{path} is a pickle, which can run code when it is opened; convert it to safetensors first: "
            "`sana-wm convert --pickle` takes the published streaming checkpoint and runs nothing"
        )


class WeightFiles:
    """Tensors of one or several safetensors files, with a leading `model.` taken off their names.

    Files whose metadata says ``{"storage": "int8"}`` are decompressed tensor by tensor (see `quantize`).
    """

    def __init__(self, files: Sequence[Path], where: str | Path) -> None:
        """Open `files`; `where` names their source in errors.

        Raises:
            InputError: a file is missing, a pickle or not safetensors, or a name occurs twice.
        """
        self.where = str(where)
        self._stored: dict[str, tuple[Any, str, bool]] = {}
        for path in files:
            file = _open(path)
            eight_bit = (file.metadata() or {}).get("storage") == METADATA["storage"]
            names = set(file.keys())
            for name in names:
                owner = name.removesuffix(SCALE_SUFFIX)
                if eight_bit and owner != name and owner in names and _dtype(file, owner) == INT8:
                    continue
                key = name.removeprefix(PREFIX)
                if key in self._stored:
                    raise InputError(f"{self.where}: {key} is stored twice; a tensor must occur once over all files")
                self._stored[key] = (file, name, eight_bit)

    @classmethod
    def from_folder(cls, folder: Path) -> WeightFiles:
        """All weights of `folder`: the shards its `*.index.json` lists, else every `*.safetensors` in it.

        Raises:
            InputError: there are none (a folder of pickles is told so).
        """
        return cls(_files_of(folder), folder)

    @classmethod
    def from_path(cls, path: Path) -> WeightFiles:
        """Weights of a file or of a folder."""
        return cls.from_folder(path) if path.is_dir() else cls([path], path)

    def __contains__(self, key: str) -> bool:
        return key in self._stored

    def keys(self) -> frozenset[str]:
        return frozenset(self._stored)

    def shape(self, key: str) -> tuple[int, ...]:
        file, name, _ = self._stored[key]
        return tuple(file.get_slice(name).get_shape())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: self.shape(key) for key in self._stored}

    def has_float(self, key: str) -> bool:
        """Whether the tensor holds floating-point numbers, or int8 ones that stand for them."""
        file, name, eight_bit = self._stored[key]
        dtype = _dtype(file, name)
        return dtype in FLOAT_DTYPES or (eight_bit and dtype == INT8)

    def get(self, key: str) -> Tensor:
        """The tensor on the CPU in its stored dtype; float32 where it is stored in eight bits."""
        file, name, eight_bit = self._stored[key]
        tensor = file.get_tensor(name)
        if not eight_bit or tensor.dtype != torch.int8:
            return tensor
        scale = name + SCALE_SUFFIX
        return dequantize(key, tensor, file.get_tensor(scale) if scale in set(file.keys()) else None)


def _open(path: Path) -> Any:
    refuse_pickle(path)
    try:
        return safe_open(str(path), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error})") from error


def _dtype(file: Any, name: str) -> str:
    return str(file.get_slice(name).get_dtype())


def _files_of(folder: Path) -> list[Path]:
    indices = sorted(folder.glob("*.index.json"))
    if indices:
        names = {name for index in indices for name in _shards(index)}
        missing = sorted(name for name in names if not (folder / name).is_file())
        if missing:
            raise InputError(f"{folder}: the index lists files that are not there: {counted(missing)}")
        return [folder / name for name in sorted(names)]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        for path in sorted(folder.glob("*")):
            refuse_pickle(path)
        raise InputError(f"{folder} holds no weights; a *.safetensors file was looked for")
    return files


def _shards(index: Path) -> set[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is not an index of shards; a JSON object with 'weight_map' was expected") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"{index} names the shard {name!r}; a plain file name beside it was expected")
        refuse_pickle(Path(name))
    return names
