"""Number arrays from NumPy files of unknown origin; nothing pickled is ever read."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm.errors import InputError

MAX_BYTES = 512 * 2**20
"""Largest file or archive that is read; an hour of poses at 16 fps takes 7 MiB in float64."""

# everything NumPy and zipfile raise on damaged or hostile files
_BROKEN = (
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    RecursionError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


def read_arrays(
    path: str | Path, what: str, required: str, optional: Sequence[str] = ()
) -> dict[str, npt.NDArray[np.float64]]:
    """Arrays of a `.npz` file by name, or the one array of a `.npy` file under the name `required`; all as float64.

    The two are told apart by content; `what` names the input in messages. Raises :class:`InputError` if the file is
    missing, no NumPy file, broken, too large, lacks `required`, or holds anything but real numbers under the names
    asked for.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic == b"\x93NUMPY":
            arrays = {required: _read_npy(path, what)}
        elif magic[:4] == b"PK\x03\x04":
            arrays = _read_npz(path, what, required, optional)
        else:
            raise InputError(f"{what} '{path}' is not a NumPy .npy or .npz file.")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{what} '{path}' cannot be read: {error.strerror or error}.") from error
    except _BROKEN as error:
        raise InputError(f"{what} '{path}' is broken or holds pickled objects; save plain number arrays.") from error
    return {name: as_float64(array, f"'{name}' of {what} '{path}'") for name, array in arrays.items()}


def as_float64(array: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """The array in float64; :class:`InputError` if it holds anything but real numbers."""
    numbers = np.asarray(array)
    if numbers.dtype.kind not in "fiu":
        raise InputError(f"{name} has type {numbers.dtype}; it must hold real numbers.")
    return numbers.astype(np.float64)


def _read_npy(path: Path, what: str) -> npt.NDArray[Any]:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{what} '{path}' holds {size} bytes; at most {MAX_BYTES} are read.")
    # a memory map refuses a header that promises more than the file holds
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def _read_npz(path: Path, what: str, required: str, optional: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as zipped:
        unpacked = sum(member.file_size for member in zipped.infolist())
    if unpacked > MAX_BYTES:
        raise InputError(f"{what} '{path}' unpacks to {unpacked} bytes; at most {MAX_BYTES} are read.")
    with np.load(path, allow_pickle=False) as archive:
        if required not in archive.files:
            raise InputError(
                f"{what} '{path}' holds the arrays {sorted(archive.files)[:10]}; it must hold '{required}'."
            )
        return {name: archive[name] for name in (required, *optional) if name in archive.files}
