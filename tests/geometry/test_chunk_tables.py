"""Chunks tile every clip, remainders go where they should, and wrong lists are refused."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sana_wm.errors import InputError
from sana_wm.geometry.chunks import ar_bounds, chunk_bounds, chunk_starts, staircase_start_steps, visible_chunks


@pytest.mark.parametrize("strategy", ["uniform", "first_frame", "first_chunk_plus_one"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_chunks_tile_the_clip_and_only_the_image_frame_may_be_short(strategy: str, size: int) -> None:
    for T in range(1, 40):
        bounds = chunk_bounds(chunk_starts(T, size, strategy), T)
        sizes = [b - a for a, b in pairwise(bounds)]
        assert bounds[0] == 0
        assert sum(sizes) == T
        if len(sizes) > 2:
            assert all(size <= s < 2 * size for s in sizes[1:])


def test_released_chunking_of_a_minute_is_four_then_threes() -> None:
    assert chunk_starts(121, 3, "first_chunk_plus_one") == [0, *range(4, 121, 3)]
    assert chunk_starts(21, 3, "first_chunk_plus_one") == [0, 4, 7, 10, 13, 16]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        (None, "uniform"),
        ("Default", "uniform"),
        ("first_frame_alone", "first_frame"),
        ("FIRST_FRAME_ONLY", "first_frame"),
        ("first_plus_one", "first_chunk_plus_one"),
    ],
)
def test_aliases_in_any_case_mean_the_same(alias: str | None, name: str) -> None:
    assert chunk_starts(17, 3, alias) == chunk_starts(17, 3, name)


def test_unknown_strategies_and_impossible_numbers_are_refused() -> None:
    with pytest.raises(InputError, match=r"'halves'.*uniform"):
        chunk_starts(9, 3, "halves")
    for arguments in ((0, 3), (9, 0), (-1, 3)):
        with pytest.raises(InputError):
            chunk_starts(*arguments)
        with pytest.raises(InputError):
            ar_bounds(*arguments)
    with pytest.raises(InputError):
        visible_chunks(-1, 2, True)


@pytest.mark.parametrize(
    ("starts", "bounds"),
    [([4, 7], [0, 4, 7, 10]), ([0, 4, 10, 12], [0, 4, 10]), ([], [0, 10]), ([0], [0, 10]), ([12], [0, 10])],
)
def test_explicit_lists_are_completed(starts: list[int], bounds: list[int]) -> None:
    assert chunk_bounds(starts, 10) == bounds


@pytest.mark.parametrize("starts", [[0, 4, 4], [4, 2], [-1, 3]])
def test_explicit_lists_that_do_not_rise_are_refused(starts: list[int]) -> None:
    with pytest.raises(InputError, match="rising"):
        chunk_bounds(starts, 10)


def test_the_first_autoregressive_segment_takes_the_remainder() -> None:
    assert ar_bounds(11, 3) == [0, 5, 8, 11]
    assert ar_bounds(3, 3) == [0, 3]
    with pytest.raises(InputError, match="block of 3"):
        ar_bounds(2, 3)
    for T in range(4, 60, 3):
        assert ar_bounds(T, 3) == chunk_bounds(chunk_starts(T, 3, "first_chunk_plus_one"), T)


def test_the_sink_takes_one_place_of_the_window() -> None:
    assert visible_chunks(6, 2, sink=True) == [0, 5]
    assert visible_chunks(6, 2, sink=False) == [4, 5]
    assert visible_chunks(1, 2, sink=True) == [0]
    assert visible_chunks(6, -1, sink=True) == list(range(6))
    assert visible_chunks(0, 2, sink=True) == []


def test_a_staircase_starts_one_chunk_after_the_other_or_all_within_one_length() -> None:
    assert staircase_start_steps(4, 10, 1.0) == [0, 10, 20, 30]
    assert staircase_start_steps(4, 10) == [0, 2, 5, 7]
    for interval in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="interval"):
            staircase_start_steps(4, 10, interval)
