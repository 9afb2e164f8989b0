"""A live session gives what the engine gives, and can be replayed, rewound and branched."""

from __future__ import annotations

import io
import json
import time

import av
import numpy as np
import pytest

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.sidecar import frames_sha256
from sana_wm.engine.world import World
from sana_wm.serving.walk import Walk
from tests.engine.tiny import picture
from tests.serving.live import Serve, encoded

MOVES = ["w", "w-10,dw-14", ["a"], [["i"]] * 24, "none"]
AS_ACTIONS = ["w", "w-10,dw-14", "a", "i", "none"]


def test_the_same_seed_and_keys_give_the_frames_of_world_step(serve: Serve, shared_pipe: SanaWMPipeline) -> None:
    place = serve()
    with place.guest() as guest:
        ready = guest.begin(seed=7, condition_inputs={"fov": 70})
        assert (ready["width"], ready["height"], ready["frames_a_chunk"]) == (48, 32, 24)
        made = [guest.chunk(keys) for keys in MOVES]
    with World.begin(shared_pipe, picture(), "a street", fov=70.0, seed=7, plan=place.house.plan) as world:
        for keys, (batch, stats) in zip(AS_ACTIONS, made, strict=True):
            frames = world.step(keys)
            assert np.array_equal(batch.frames, frames)
            assert stats["sha256"] == frames_sha256(frames)
            assert stats["num_frames"] == world.num_frames


def test_a_recorded_walk_replays_offline_to_the_same_hash(serve: Serve, shared_pipe: SanaWMPipeline) -> None:
    place = serve()
    with place.guest() as guest:
        ready = guest.begin(seed=3, condition_inputs={"fov": 70, "translation_speed": 0.1})
        live = [guest.chunk(keys)[0].frames for keys in ("w", "d-5,wd-19")]
        code, content = place.get(f"v1/sessions/{ready['session']}/walk")
        assert code == 200
        code, video = place.get(f"v1/sessions/{ready['session']}/video")
        assert code == 200
        code, later = place.get(f"v1/sessions/{ready['session']}/video?from_chunk=1")
    walk = Walk.of(json.loads(content))
    assert [step.keys for step in walk.steps] == ["w-24", "d-5,dw-19"]
    for frames, replayed in zip(live, walk.replay(shared_pipe), strict=True):
        assert np.array_equal(frames, replayed)
    shown = []
    for data in (video, later):
        with av.open(io.BytesIO(data)) as container:
            assert container.start_time == 0
            shown.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert [len(frames) for frames in shown] == [49, 24]
    assert np.array_equal(shown[0][25:], shown[1])
    apart = [np.abs(frame.astype(float) - live[1][-1]).mean() for frame in shown[0]]
    assert np.argmin(apart) == 48


def test_rewinding_goes_back_to_the_state_and_branches_off(serve: Serve) -> None:
    with serve().guest() as guest:
        guest.begin()
        one, two = guest.chunk("w")[1], guest.chunk("w")[1]
        guest.say("rewind", node=one["node"])
        there = guest.until("rewound")
        assert (there["node"], there["path"]) == (1, [0, 1])
        other = guest.chunk("d")[1]
        assert other["parent"] == 1
        assert other["sha256"] != two["sha256"]
        guest.say("rewind", node=1)
        assert guest.chunk("w")[1]["sha256"] == two["sha256"]
        guest.say("rewind", node=two["node"])
        assert guest.until("rewound")["path"] == [0, 1, 2]
        guest.say("rewind", node=0)
        assert guest.chunk("w")[1]["sha256"] == one["sha256"]


def test_states_are_kept_up_to_the_bound_and_the_beginning_for_ever(serve: Serve) -> None:
    with serve(kept_chunks=2).guest() as guest:
        guest.begin()
        for number in range(1, 6):
            stats = guest.chunk("w")[1]
            assert stats["kept"] == [0, *range(max(1, number - 2), number + 1)]
        guest.say("rewind", node=1)
        assert guest.until("error")["code"] == "gone"
        guest.say("rewind", node=0)
        assert guest.until("rewound")["node"] == 0


def test_a_live_world_goes_with_the_keys_held_and_waits_when_none_are(serve: Serve) -> None:
    with serve().guest() as guest:
        guest.begin(pace="live")
        guest.until("waiting")
        guest.say("event", camera_actions="w", seq=1)
        first = guest.until("chunk_stats")
        assert (first["keys"], first["seq"]) == ("w-24", 1)
        guest.say("event", camera_actions="", seq=2)
        guest.until("waiting")
        keys = [one["keys"] for one in guest.seen if one["type"] == "chunk_stats"]
        assert keys[-1] == "none-24"
        assert 2 <= len(keys) <= 3
        # A press between two chunks is not lost, and a look is turned into as many frames of a key.
        guest.say("pause", paused=True)
        guest.until("paused")
        guest.say("event", camera_actions="w")
        guest.say("event", camera_actions="", look=[6.0, -3.0], seq=9)
        guest.say("pause", paused=False)
        assert guest.until("chunk_stats")["keys"] == "dkw-5,dw-3,d-2,none-14"


def test_a_live_world_is_not_made_faster_than_it_is_shown(serve: Serve) -> None:
    with serve().guest() as guest:
        guest.begin(pace="live")
        guest.say("event", camera_actions="w")
        begin = time.monotonic()
        for _ in range(3):
            guest.until("chunk_stats")
        # three chunks of 1.5 s: the third is made shortly before the second has been shown
        assert 1.5 < time.monotonic() - begin < 4.5


def test_pictures_are_jpeg_unless_asked_otherwise(serve: Serve) -> None:
    from PIL import Image

    with serve().guest() as guest:
        guest.begin(encoding="jpeg")
        batch, _ = guest.chunk("w")
        assert len(batch.parts) == 25
        assert len(batch.head["poses"]) == 25
        assert Image.open(io.BytesIO(batch.parts[3])).size == (48, 32)


def test_a_world_without_a_picture_is_the_example(serve: Serve) -> None:
    with serve().guest() as guest:
        guest.begin(prompt=None, first_frame=None)
        assert guest.chunk("w")[0].head["num_frames"] == 25


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_pictures_may_be_of_these_kinds(serve: Serve, form: str) -> None:
    with serve().guest() as guest:
        guest.begin(first_frame=f"data:image/{form.lower()};base64,{encoded(form)}")
