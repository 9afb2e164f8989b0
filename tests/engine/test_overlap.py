"""Stages run side by side, in order, no further ahead than allowed, and stop all together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sana_wm.engine.overlap import Stopped, overlapped


def threads() -> int:
    return threading.active_count()


def test_every_item_goes_through_every_stage_in_order() -> None:
    made = overlapped(range(20), lambda x: x + 1, lambda x: x * 10)
    assert list(made) == [10 * (x + 1) for x in range(20)]


def test_stages_work_at_the_same_time() -> None:
    met = threading.Barrier(2, timeout=10)  # only passed if two stages wait at once

    def meet(x: int) -> int:
        if 0 < x < 5:
            met.wait()
        return x

    # The first stage at item k + 1 meets the second at item k.
    assert list(overlapped(range(6), meet, lambda x: meet(x + 1))) == [x + 1 for x in range(6)]


def test_a_slow_stage_holds_up_those_before_it() -> None:
    begun: list[int] = []
    go = threading.Event()

    def source() -> Iterator[int]:
        for x in range(100):
            begun.append(x)
            yield x

    def slow(x: int) -> int:
        go.wait(10)
        return x

    made = overlapped(source(), lambda x: x, slow)
    reader = threading.Thread(target=lambda: [None for _ in made])
    reader.start()
    time.sleep(0.2)
    # One in the slow stage, and for either channel before it one that waits and one that wants in.
    assert len(begun) <= 5
    go.set()
    reader.join(10)
    assert len(begun) == 100


def collect(results: Iterator[int], into: list[int]) -> None:
    for x in results:
        into.append(x)  # one by one, so that what came before an error is kept


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_came_before_a_failure_comes_out_and_then_the_error(failing: int) -> None:
    def stage(number: int):
        def work(x: int) -> int:
            if number == failing and x == 3:
                raise ZeroDivisionError(f"stage {number}")
            return x

        return work

    before, made = threads(), []
    results = overlapped(map(stage(0), range(1000)), stage(1), stage(2))
    with pytest.raises(ZeroDivisionError, match=f"stage {failing}"):
        collect(results, made)
    assert made == [0, 1, 2]
    assert threads() == before


def test_whoever_stops_reading_stops_everything() -> None:
    begun: list[int] = []
    before = threads()

    def source() -> Iterator[int]:
        for x in range(10**6):
            begun.append(x)
            yield x

    stop = threading.Event()
    results = overlapped(source(), lambda x: x, stop=stop)
    assert [next(results) for _ in range(5)] == list(range(5))
    assert not stop.is_set()
    results.close()
    assert stop.is_set()
    assert threads() == before
    assert len(begun) < 20


def test_a_long_stage_that_stops_by_itself_leaves_nobody_waiting() -> None:
    stop, waits = threading.Event(), threading.Event()
    before = threads()

    def source() -> Iterator[int]:
        yield 0
        waits.set()
        stop.wait(10)  # the stages behind have nothing to do meanwhile
        raise Stopped

    results = overlapped(source(), lambda x: x, lambda x: x, stop=stop)
    assert next(results) == 0
    assert waits.wait(10)
    closing = threading.Thread(target=results.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert threads() == before
