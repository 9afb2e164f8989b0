"""What a live world does with keys that come while it is busy."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.serving.walk import Walk
from tests.serving.live import Batch, Guest, Place, Serve, live_pipe


@pytest.fixture(scope="module")
def large() -> SanaWMPipeline:
    return live_pipe(height=192, width=320, fps=64)


@pytest.fixture(scope="module")
def quick() -> SanaWMPipeline:
    """Shown so fast that no chunk waits for the one before to have been seen."""
    return live_pipe(fps=2400)


def until_started(guest: Guest, chunk: int) -> dict[str, object]:
    while True:
        found = guest.until("chunk_started")
        if found["chunk"] == chunk:
            return found


def steady(place: Place, guest: Guest) -> float:
    """Walk until chunks follow each other; seconds of one."""
    guest.begin(pace="live")
    guest.say("event", camera_actions="w", seq=1)
    until_started(guest, 2)
    begin = time.monotonic()
    until_started(guest, 3)
    return time.monotonic() - begin


def test_a_key_in_the_middle_of_a_chunk_is_obeyed_by_that_chunk(serve: Serve, quick: SanaWMPipeline) -> None:
    place = serve(pipe=quick, steps=300)
    with place.guest() as guest:
        ready = steady(place, guest)
        took = steady_again(guest)
        time.sleep(0.3 * took)
        asked = time.monotonic()
        guest.say("event", camera_actions="wd", seq=2)
        batch = guest.batch()
        while batch.head["seq"] != 2:
            batch = guest.batch()
        assert batch.head["keys"] == "dw-24"
        assert time.monotonic() - asked < took + 0.15 + 0.3  # the last is for a busy machine
        started = [one for one in guest.seen if one["type"] == "chunk_started"]
        assert started[-1]["parent"] == started[-2]["parent"]  # begun anew
        assert ready


def steady_again(guest: Guest) -> float:
    """From the begin of a chunk to that of the next one."""
    begin = time.monotonic()
    guest.until("chunk_started")
    return time.monotonic() - begin
