"""What a live world does with what it is told while it is busy."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.stream_plan import plan_stream
from sana_wm.engine.world import World
from tests.engine.tiny import picture
from tests.serving.live import Batch, Guest, Serve, live_pipe

pytest.importorskip("fastapi", reason="needs the packages of the extra 'serve'")
from sana_wm.serving.walk import Walk, chunk_hash


@pytest.fixture(scope="module")
def large() -> SanaWMPipeline:
    return live_pipe(height=192, width=320)


@pytest.fixture(scope="module")
def quick() -> SanaWMPipeline:
    """Shown so fast that no chunk waits for the one before to have been seen."""
    return live_pipe(fps=2400)


@pytest.fixture(scope="module")
def steps(quick: SanaWMPipeline) -> int:
    """So many that a chunk takes half a second here: far longer than the last moment in which it is not changed."""
    few = 10
    with World.begin(quick, picture(), "a room", fov=60, plan=plan_stream(quick.settings, few)) as world:
        world.step("w")
        begin = time.perf_counter()
        world.step("w")
        each = (time.perf_counter() - begin) / few
    return min(1000, max(few, round(0.6 / each)))


def walking(guest: Guest) -> float:
    """Walk until chunks follow each other; the seconds of one, another of which has just begun."""
    guest.begin(pace="live")
    guest.say("event", camera_actions="w", seq=1)
    while guest.until("chunk_started")["chunk"] < 2:
        pass
    begin = time.monotonic()
    guest.until("chunk_started")
    return time.monotonic() - begin


def obeyed(guest: Guest, seq: int) -> tuple[Batch, list[dict[str, Any]]]:
    """The chunk that obeys an event, and every chunk begun until then."""
    guest.seen.clear()
    while True:
        batch = guest.batch()
        if batch.head["seq"] == seq:
            return batch, [one for one in guest.seen if one["type"] == "chunk_started"]


def test_a_key_is_obeyed_by_the_chunk_that_is_being_made(serve: Serve, quick: SanaWMPipeline, steps: int) -> None:
    place = serve(pipe=quick, steps=steps)
    with place.guest() as guest:
        took = walking(guest)
        assert took > 0.25, "the test needs chunks that take longer than the last moment in which they are not changed"
        being_made = next(one for one in reversed(guest.seen) if one["type"] == "chunk_started")
        time.sleep(0.3 * took)
        guest.say("event", camera_actions="wd", seq=2)
        batch, begun = obeyed(guest, 2)
        assert batch.head["parent"] == being_made["parent"]  # it takes the place of that chunk
        assert batch.head["keys"] == "dw-24"
        assert [one["parent"] for one in begun] == [batch.head["parent"]]  # begun anew

        # Whatever comes how fast, a chunk that obeys is finished.
        guest.until("chunk_started")
        time.sleep(0.3 * took)
        guest.say("event", camera_actions="wa", seq=3)
        time.sleep(0.2 * took)
        guest.say("event", camera_actions="ws", seq=4)
        batch, begun = obeyed(guest, 3)
        assert (batch.head["keys"], len(begun)) == ("aw-24", 1)
        assert obeyed(guest, 4)[0].head["keys"] == "sw-24"

        # And the walk is the same, made again.
        name = next(iter(place.house.sessions))
        walk = Walk.of(json.loads(place.get(f"v1/sessions/{name}/walk")[1]))
        assert {step.keys for step in walk.steps} >= {"w-24", "dw-24", "aw-24", "sw-24"}
        for frames, step in zip(walk.replay(quick), walk.steps, strict=True):
            assert chunk_hash(frames) == step.sha256


def test_a_tap_and_a_look_are_not_lost_when_a_chunk_is_begun_anew(
    serve: Serve, quick: SanaWMPipeline, steps: int
) -> None:
    place = serve(pipe=quick, steps=steps)
    with place.guest() as guest:
        took = walking(guest)
        time.sleep(0.3 * took)
        guest.say("event", camera_actions="w", look=[6.0, 0.0], seq=2)  # ten frames to the right
        batch, begun = obeyed(guest, 2)
        assert (batch.head["keys"], len(begun)) == ("dw-10,w-14", 1)
        assert guest.batch().head["keys"] == "w-24"


def test_a_chunk_that_waits_for_its_turn_takes_the_keys_of_its_turn(
    serve: Serve, quick: SanaWMPipeline, steps: int
) -> None:
    place = serve(pipe=quick, steps=steps)
    with place.guest() as other, place.guest() as guest:
        guest.begin(pace="live")
        other.begin()
        other.say("event", camera_actions="w")
        other.until("chunk_started")
        guest.say("event", camera_actions="w", seq=1)
        guest.until("chunk_started")
        guest.say("event", camera_actions="d", seq=2)
        batch = guest.batch()
        assert (batch.head["keys"], batch.head["seq"]) == ("dw-8,d-16", 2)
        assert place.house.worker.waiting <= 1
        assert b"sana_wm_chunks_cancelled_total 0.0" in place.get("metrics")[1]


def test_a_world_that_waits_remembers_meanwhile(serve: Serve) -> None:
    place = serve()
    with place.guest() as guest:
        name = guest.begin()["session"]
        first = guest.chunk("w")[1]
        tree = place.house.sessions[name].tree
        assert tree is not None
        place.wait(lambda: tree.current.world is not None and tree.current.world.state.finished is None, 5)
        other = guest.chunk("w")[1]
        guest.say("rewind", node=first["node"])
        guest.until("rewound")
        assert guest.chunk("w")[1]["sha256"] == other["sha256"]


def test_what_was_made_before_a_rewind_is_not_said_after_it(serve: Serve, large: SanaWMPipeline) -> None:
    place = serve(pipe=large, steps=1)
    for wait in np.linspace(0, 0.08, 5):
        with place.guest() as guest:
            session = place.house.sessions[guest.begin(encoding="raw")["session"]]
            guest.say("event", camera_actions="w")
            guest.until("chunk_started")
            place.wait(lambda: not place.house.worker.busy, 10)
            time.sleep(wait)  # while the chunk is packed
            guest.say("rewind", node=0)
            path = guest.until("rewound")["path"]
            assert path == [0]
            guest.seen.clear()
            guest.say("pause")
            guest.until("paused")
            assert {one["type"] for one in guest.seen} <= {"waiting", "paused"}
            assert session.tree is not None
            assert session.tree.current.number == 0


def test_videos_are_kept_up_to_their_bound(serve: Serve) -> None:
    place = serve(video_bytes=1)
    with place.guest() as guest:
        name = guest.begin()["session"]
        for _ in range(3):
            guest.chunk("w")
        assert place.get(f"v1/sessions/{name}/video")[0] == 404
        assert place.get(f"v1/sessions/{name}/video?from_chunk=2")[0] == 200
        assert place.get(f"v1/sessions/{name}/walk")[0] == 200
