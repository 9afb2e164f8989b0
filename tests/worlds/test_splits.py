"""Training, validation and test never share a procedural seed."""

from __future__ import annotations

import itertools

import pytest

from sana_wm.errors import InputError
from sana_wm.worlds.splits import PROCEDURAL_SEEDS, split_seed


def test_seed_ranges_of_the_splits_are_disjoint_and_fit_a_generator() -> None:
    for a, b in itertools.combinations(PROCEDURAL_SEEDS.values(), 2):
        assert a.stop <= b.start or b.stop <= a.start
    assert all(seeds.start >= 0 and seeds.stop < 2**63 for seeds in PROCEDURAL_SEEDS.values())


def test_split_seed_counts_from_the_start_of_its_range() -> None:
    for split, seeds in PROCEDURAL_SEEDS.items():
        assert split_seed(split, 0) == seeds.start
        assert split_seed(split, len(seeds) - 1) == seeds.stop - 1


@pytest.mark.parametrize(("split", "index"), [("holdout", 0), ("test", -1), ("validation", 2**20)])
def test_an_unknown_split_or_an_index_outside_it_is_refused(split: str, index: int) -> None:
    with pytest.raises(InputError):
        split_seed(split, index)
