"""Which seeds belong to training, validation and test.

A procedural scene, its camera path and its caption follow from one integer seed, so disjoint seed ranges are disjoint
data.
"""

from __future__ import annotations

from sana_wm.errors import InputError

PROCEDURAL_SEEDS: dict[str, range] = {
    "train": range(2**31),
    "validation": range(2**31, 2**31 + 2**20),
    "test": range(2**31 + 2**20, 2**31 + 2**21),
}
"""Seed range of every split; the ranges share no seed."""


def split_seed(split: str, index: int) -> int:
    """Return the seed of clip ``index`` (counted from 0) of ``split`` (``train``, ``validation`` or ``test``)."""
    seeds = PROCEDURAL_SEEDS.get(split)
    if seeds is None:
        raise InputError(f"split is {split!r}; it must be one of {', '.join(PROCEDURAL_SEEDS)}.")
    if not 0 <= index < len(seeds):
        raise InputError(f"index is {index}; split {split!r} has clips 0 to {len(seeds) - 1}.")
    return seeds[index]
