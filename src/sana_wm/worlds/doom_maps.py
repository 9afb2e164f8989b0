"""Which Freedoom levels belong to training, validation and test.

``MAP..`` are levels of ``freedoom2.wad``, ``E.M.`` levels of ``freedoom1.wad``; both come with the ``vizdoom`` package.
No level is in two splits, so a validation or test clip shows rooms that training never saw (the textures are shared by
all levels).
"""

from __future__ import annotations

_VALIDATION = ("MAP05", "MAP18", "E1M6", "E3M2")
_TEST = ("MAP04", "MAP12", "MAP21", "E1M3", "E2M9", "E4M5")
_UNUSED = ("MAP30", "E1M8", "E2M8", "E3M8")
_ALL = tuple(f"MAP{i:02d}" for i in range(1, 33)) + tuple(f"E{e}M{m}" for e in range(1, 5) for m in range(1, 10))

DOOM_MAPS: dict[str, list[str]] = {
    "train": [name for name in _ALL if name not in {*_VALIDATION, *_TEST, *_UNUSED}],
    "validation": list(_VALIDATION),
    "test": list(_TEST),
}
"""Levels of every split. Four boss arenas are in none: they are a single open field."""


def wad_name(level: str) -> str:
    """Return the file that holds ``level``: ``freedoom1.wad`` for ``E.M.``, ``freedoom2.wad`` for ``MAP..``."""
    return "freedoom1.wad" if level.startswith("E") else "freedoom2.wad"
