"""Read the plan of a level from a WAD file: lines, sectors, side textures and the player's start.

The format is the classic one of 1993: a directory of 16-byte entries ("lumps"); a map is a marker followed by its lumps
in a fixed order. Angles are in degrees, lengths in map units.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sana_wm.errors import InputError

_LINE = np.dtype(
    [("v1", "<u2"), ("v2", "<u2"), ("flags", "<u2"), ("special", "<u2"), ("tag", "<u2"), ("side", "<u2", 2)]
)
_SIDE = np.dtype([("offset", "<i2", 2), ("upper", "S8"), ("lower", "S8"), ("middle", "S8"), ("sector", "<u2")])
_SECTOR = np.dtype(
    [
        ("floor", "<i2"),
        ("ceiling", "<i2"),
        ("floor_flat", "S8"),
        ("ceiling_flat", "S8"),
        ("light", "<i2"),
        ("rest", "<i2", 2),
    ]
)
_THING = np.dtype([("xy", "<i2", 2), ("angle", "<i2"), ("kind", "<u2"), ("flags", "<u2")])
_PLAYER_START = 1
_NO_SIDE = 0xFFFF


@dataclass(frozen=True)
class WadMap:
    """Plan of one level; ``L`` lines, ``S`` sectors.

    Attributes:
        ends: ``(L, 2, 2)`` float64 end points of the lines; the front of a line is on the right of its direction.
        blocking: ``(L,)`` bool, lines that stop the player whatever their height.
        special: ``(L,)`` int, what crossing or using the line does (0: nothing).
        sides: ``(L, 2)`` int sector on the front and on the back, -1 where there is none.
        textures: ``(L, 2, 3)`` names of the upper, lower and middle texture of both sides (``-`` or empty: none).
        floor, ceiling: ``(S,)`` float64 heights.
        floor_flat, ceiling_flat: ``(S,)`` names of the textures of floor and ceiling.
        start: ``(2,)`` float64 where the player starts.
    """

    ends: NDArray[np.float64]
    blocking: NDArray[np.bool_]
    special: NDArray[np.int64]
    sides: NDArray[np.int64]
    textures: NDArray[np.str_]
    floor: NDArray[np.float64]
    ceiling: NDArray[np.float64]
    floor_flat: NDArray[np.str_]
    ceiling_flat: NDArray[np.str_]
    start: NDArray[np.float64]


@lru_cache(maxsize=2)
def _directory(path: Path) -> tuple[bytes, list[tuple[str, int, int]]]:
    if not path.is_file():
        raise InputError(f"WAD file is {path}, which does not exist; it must be a Doom WAD.")
    content = path.read_bytes()
    if content[:4] not in {b"IWAD", b"PWAD"}:
        raise InputError(f"WAD file {path} starts with {content[:4]!r}; a WAD starts with b'IWAD' or b'PWAD'.")
    count, offset = struct.unpack("<ii", content[4:12])
    entries = struct.iter_unpack("<ii8s", content[offset : offset + 16 * count])
    return content, [(name.rstrip(b"\0").decode("ascii"), start, size) for start, size, name in entries]


def read_map(path: Path, name: str) -> WadMap:
    """Return the plan of map ``name`` (``MAP01``, ``E1M1``); :class:`InputError` if the file does not hold it."""
    content, directory = _directory(path)
    names = [entry[0] for entry in directory]
    if name not in names:
        raise InputError(f"map is {name!r}, which {path.name} does not hold; take a name such as MAP01 or E1M1.")
    first = names.index(name) + 1
    lumps = {key: content[start : start + size] for key, start, size in directory[first : first + 10]}
    lines = np.frombuffer(lumps["LINEDEFS"], _LINE)
    sides = np.frombuffer(lumps["SIDEDEFS"], _SIDE)
    sectors = np.frombuffer(lumps["SECTORS"], _SECTOR)
    things = np.frombuffer(lumps["THINGS"], _THING)
    vertices = np.frombuffer(lumps["VERTEXES"], np.dtype("<i2")).reshape(-1, 2).astype(np.float64)
    has_side = lines["side"] != _NO_SIDE
    side = np.where(has_side, lines["side"], 0)
    texture = np.stack([sides[key].astype("U8") for key in ("upper", "lower", "middle")], axis=-1)
    return WadMap(
        ends=np.stack((vertices[lines["v1"]], vertices[lines["v2"]]), axis=1),
        blocking=(lines["flags"] & 1) != 0,
        special=lines["special"].astype(np.int64),
        sides=np.where(has_side, sides["sector"][side].astype(np.int64), -1),
        textures=np.where(has_side[..., None], texture[side], "-"),
        floor=sectors["floor"].astype(np.float64),
        ceiling=sectors["ceiling"].astype(np.float64),
        floor_flat=sectors["floor_flat"].astype("U8"),
        ceiling_flat=sectors["ceiling_flat"].astype("U8"),
        start=things["xy"][things["kind"] == _PLAYER_START][0].astype(np.float64),
    )
