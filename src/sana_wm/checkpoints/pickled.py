"""PyTorch's own checkpoint files, which are pickles: read once, restricted, to be written as safetensors.

Nothing else in this package opens a pickle. The unpickler is PyTorch's for weights alone, which knows tensors, numbers,
texts, lists and mappings and calls nothing that a file names beyond what rebuilds those. What it returns is then held
against an allow-list of names, shapes and number formats before a value is used (`checkpoints.convert`).
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from struct import error as StructError

import torch
from torch import Tensor, nn

from sana_wm.checkpoints.weights import PICKLES, PREFIX, counted
from sana_wm.errors import InputError, first_line

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
NESTED = ("generator", "state_dict")
"""Entries that hold the weights where they are not at the top: of a distillation, of training (spec 10, section 2)."""

STEP_LIST = "denoising_step_list"
MAX_FILE_BYTES = 64 * 2**30
"""The 2.6B generator with its critic has 21 GB in float32."""

MAX_PICKLE_BYTES = 64 * 2**20
"""Of the part that tells of the tensors; their numbers lie outside it. That of the 2.6B model has some 100 kB."""

_NAMED = re.compile(r"GLOBAL (\S+) was not an allowed global|whose module (\S+) is blocked")
_BROKEN = (
    UnpicklingError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    ImportError,
    StructError,
    zipfile.BadZipFile,
)
"""What reading a file made of anything can end in."""


@dataclass(frozen=True)
class PickledCheckpoint:
    """Weights by name, without a leading `model.`, as they lie in the mapped file; and the steps of its student.

    Attributes:
        timesteps: the step list that stands beside the weights, checked by nobody yet; empty if there is none.
    """

    weights: dict[str, Tensor]
    timesteps: tuple[float, ...]


def read_pickled(path: Path) -> PickledCheckpoint:
    """The weights of a `torch.save` file: those of its entry `generator`, else `state_dict`, else its own.

    Other entries, such as an optimizer's, are left alone. Numbers are read from the disk when they are used.

    Raises:
        InputError: there is no such file, it is none of PyTorch's zip files, larger than such a checkpoint can be,
            asks for code, or holds something else than dense tensors by name.
    """
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what looks odd to the unpickler: it refuses what it cannot read
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _BROKEN as error:
        named = _NAMED.search(str(error))
        if named is not None:
            raise InputError(
                f"{path} asks for {named[1] or named[2]}, which no weights need; nothing of it was run, and it is "
                "not converted"
            ) from error
        raise InputError(f"{path} is damaged, or not made of weights alone ({first_line(error)})") from error
    steps = content.get(STEP_LIST) if isinstance(content, Mapping) else None
    for name in NESTED:
        if isinstance(content, Mapping) and name in content:
            content = content[name]
            break
    return PickledCheckpoint(_tensors(content, path), _timesteps(steps, path))


def _check_archive(path: Path) -> None:
    """Refuse what is not a zip file by PyTorch, before anything of it is unpickled."""
    if not path.is_file():
        raise InputError(f"there is no file {path}; a checkpoint that torch.save wrote was expected")
    if path.suffix not in PICKLES:
        raise InputError(f"{path} is not called like a pickled checkpoint ({', '.join(PICKLES)})")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path} has {size} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise InputError(
            f"{path} is not a zip file; a checkpoint that torch.save wrote in PyTorch 1.6 or later was expected"
        ) from error
    pickles = [entry for entry in entries if entry.filename.count("/") == 1 and entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise InputError(f"{path} is a zip file, but none with weights that torch.save wrote")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise InputError(f"{path}: {pickles[0].filename} has {pickles[0].file_size} bytes; at most {MAX_PICKLE_BYTES}")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(f"{path} is compressed, which torch.save never does")


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds {type(content).__name__}; tensors by name were expected")
    found: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(name, str):
            raise InputError(f"{path}: {name!r} is the name of a tensor; a text was expected")
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.is_meta:
            raise InputError(f"{path}: {name} is no dense tensor but {type(value).__name__}")
        if value.dtype not in FLOATS or value.is_neg():
            wanted = "float64, float32, float16 and bfloat16 can be read"
            raise InputError(f"{path}: {name} holds {value.dtype}; {wanted}")
        key = name.removeprefix(PREFIX)
        if key in found:
            raise InputError(f"{path}: {key} is stored twice, with and without {PREFIX!r} in front")
        found[key] = value.detach()
    if not found:
        raise InputError(f"{path} holds no weights; {counted(NESTED)} entries and the file itself were looked into")
    return found


def _timesteps(steps: object, path: Path) -> tuple[float, ...]:
    if isinstance(steps, Tensor) and steps.layout == torch.strided and not steps.is_meta and steps.numel() <= 1000:
        steps = steps.detach().tolist()
    if steps is None:
        return ()
    if not isinstance(steps, list | tuple) or not all(type(step) in (int, float) for step in steps):
        raise InputError(f"{path}: {STEP_LIST} is {str(steps)[:200]}; a list of timesteps was expected")
    return tuple(float(step) for step in steps)
