"""Nobody takes more than his share, whatever he sends, and what he leaves is free at once."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image

from tests.serving.live import ConnectionClosed, Guest, InvalidStatus, Place, Serve, encoded, live_pipe, same_origin

HOSTILE: list[tuple[Any, str]] = [
    ("", "not_json"),
    ("{", "not_json"),
    ("[" * 20_000, "not_json"),
    ('{"type": "event", "look": [NaN, 0]}', "not_json"),
    ('{"type": "event", "seq": ' + "9" * 5000 + "}", "not_json"),
    ("[]", "not_an_object"),
    ("null", "not_an_object"),
    (b"\x00\x01", "not_text"),
    ({}, "unknown_type"),
    ({"type": ["init"]}, "unknown_type"),
    ({"type": "shutdown"}, "unknown_type"),
    ({"type": "init", "prompt": "again"}, "out_of_order"),
    ({"type": "event", "keys": "w"}, "unknown_field"),
    ({"type": "event", "camera_actions": "xyz"}, "wrong_value"),
    ({"type": "event", "camera_actions": "w-99999999999999"}, "wrong_value"),
    ({"type": "event", "camera_actions": "w-3"}, "wrong_value"),
    ({"type": "event", "camera_actions": 7}, "wrong_value"),
    ({"type": "event", "camera_actions": [["w"], 3]}, "wrong_value"),
    ({"type": "event", "camera_actions": ["w"] * 5000}, "wrong_value"),
    ({"type": "event", "camera_actions": {"w": 1}}, "wrong_value"),
    ({"type": "event", "look": [1e300, 0]}, "wrong_value"),
    ({"type": "event", "look": "up"}, "wrong_value"),
    ({"type": "event", "seq": -1}, "wrong_value"),
    ({"type": "event", "seq": True}, "wrong_value"),
    ({"type": "rewind"}, "wrong_value"),
    ({"type": "rewind", "node": 99}, "no_such_node"),
    ({"type": "rewind", "node": "0"}, "wrong_value"),
    ({"type": "pause", "paused": 1}, "wrong_value"),
]


def send(guest: Guest, message: Any) -> None:
    guest.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))


def send_and_hear(guest: Guest, text: str) -> None:
    for _ in range(10):
        guest.socket.send(text)
        guest.hear(5)


def test_every_hostile_message_gets_its_error_and_the_world_goes_on(serve: Serve) -> None:
    with serve(wrong_messages=100).guest() as guest:
        guest.begin()
        for message, code in HOSTILE:
            send(guest, message)
            error = guest.until("error")
            assert (error["code"], error["fatal"]) == (code, False), message
            assert len(error["message"]) < 400
        assert guest.chunk("w")[1]["node"] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": None}, "prompt is missing"),
        ({"prompt": "x" * 5000}, "5000 characters"),
        ({"prompt": "\ud800"}, "surrogate"),
        ({"first_frame": "no base64!"}, "base64"),
        ({"first_frame": base64.b64encode(b"hello").decode()}, "no picture"),
        ({"first_frame": "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()}, "no picture"),
        ({"first_frame": encoded("BMP")}, "no picture"),
        ({"first_frame": encoded("PNG")[:200]}, "damaged"),
        ({"first_frame": encoded("PNG", width=5000, height=16)}, "4096"),
        ({"first_frame": encoded("PNG", width=8, height=8)}, "at least 16"),
        ({"condition_inputs": {"fov": 1000}}, "fov"),
        ({"condition_inputs": {"depth": 1}}, "condition_inputs"),
        ({"condition_inputs": {"intrinsics": [1, 2]}}, "intrinsics"),
        ({"condition_inputs": {"intrinsics": [1, 2, 3, 4], "fov": 60}}, "one of them"),
        ({"condition_inputs": {"translation_speed": 1e9}}, "translation_speed"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"max_chunks": 10**9}, "max_chunks"),
        ({"pace": "fast"}, "pace"),
    ],
    ids=str,
)
def test_a_wrong_beginning_is_refused_with_a_sentence(serve: Serve, changes: dict[str, Any], says: str) -> None:
    with serve().guest() as guest:
        guest.say("init", **{"prompt": "a street", "first_frame": encoded()} | changes)
        error = guest.until("error")
        assert error["code"] == "wrong_value"
        assert says in error["message"]


def test_a_picture_that_unpacks_to_gigabytes_is_not_unpacked(serve: Serve) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    with serve().guest() as guest:
        guest.say("init", prompt="a street", first_frame=base64.b64encode(buffer.getvalue()).decode())
        assert "pixels" in guest.until("error")["message"]


def test_too_many_wrong_messages_and_too_large_ones_end_the_session(serve: Serve) -> None:
    place = serve(wrong_messages=3)
    with place.guest() as guest:
        for _ in range(4):
            guest.socket.send("nonsense")
        said, code = guest.end()
        assert [one["type"] for one in said] == ["error"] * 4 + ["closed"]
        assert code == 1008
    with place.guest() as guest:
        guest.begin()
        guest.socket.send(json.dumps({"type": "event", "camera_actions": "w" * 10**6}))
        assert guest.end()[1] == 1009  # it is not even read
    place.wait(lambda: b'sana_wm_sessions_ended_total{reason="too_large"} 1.0' in place.get("metrics")[1], 2)
    with place.guest() as guest:
        guest.begin()
        with pytest.raises(ConnectionClosed):
            send_and_hear(guest, "x" * 7_000_000)


def test_a_large_message_that_is_no_beginning_is_not_heard_twice(serve: Serve) -> None:
    for large in ("x" * 100_000, json.dumps({"type": "init", "prompt": "x" * 100_000})):
        with serve().guest() as guest:
            guest.socket.send(large)
            said, code = guest.end()
            assert (said[0]["fatal"], code) == (True, 1008)


def test_a_second_costs_a_guest_many_short_messages_or_a_few_long_ones(serve: Serve) -> None:
    with serve(messages_a_second=50, wrong_messages=1000).guest() as guest:
        guest.begin(pace="live")
        with suppress(ConnectionClosed):
            for _ in range(40):  # 40 short ones would be heard
                guest.say("event", camera_actions="w" * 60_000)
        assert guest.end()[0][-2]["code"] == "too_fast"


def test_what_a_guest_says_is_not_said_back_at_length(serve: Serve) -> None:
    long = "x" * 50_000
    with serve(wrong_messages=100, messages_a_second=1000).guest() as guest:
        guest.begin()
        for fields in (
            {"camera_actions": long}, {"camera_actions": f"{long}-3"}, {"camera_actions": [long]}, {"look": long},
            {"camera_actions": f"w-{'1' * 50_000}"}, {long: 1}, {"camera_actions": {long: 1}}, {"seq": long},
        ):  # fmt: skip
            guest.say("event", **fields)
            assert len(guest.until("error")["message"]) < 400


def test_no_session_hangs_while_it_is_ended(serve: Serve) -> None:
    place = serve(wrong_messages=20)
    for _ in range(10):  # the end comes while complaints are being sent
        guest = place.guest()
        for _ in range(30):
            guest.socket.send("nonsense")
        guest.drop()
    place.wait(lambda: place.house.connections == 0, 3)


def test_messages_faster_than_the_rate_end_the_session(serve: Serve) -> None:
    with serve(messages_a_second=5).guest() as guest:
        guest.begin(pace="live")
        with suppress(ConnectionClosed):  # which may be before all is said
            for _ in range(40):
                guest.say("event", camera_actions="")
        said, code = guest.end()
        assert said[-2]["code"] == "too_fast"
        assert code == 1008


def test_who_says_nothing_is_let_go(serve: Serve) -> None:
    place = serve(init_seconds=0.3, idle_seconds=0.4, session_seconds=30)
    with place.guest() as guest:
        assert guest.end()[0][-1]["reason"] == "no_init"
    with place.guest() as guest:
        guest.begin()
        assert guest.end()[0][-1]["reason"] == "idle"
    with serve(session_seconds=0.5).guest() as guest:
        guest.begin()
        assert guest.end()[0][-1]["reason"] == "session_over"


def test_who_holds_a_key_or_waits_in_line_says_nothing_and_stays(serve: Serve) -> None:
    place = serve(idle_seconds=0.5, sessions=1)
    with place.guest() as first, place.guest() as second:
        first.begin(pace="live")
        first.say("event", camera_actions="w")
        second.say("init", prompt="a street", first_frame=encoded())
        second.until("queued")
        for _ in range(3):  # of 1.5 s each
            first.until("chunk_stats")
        assert place.house.line.waiting == 1
        first.say("event", camera_actions="")
        assert first.end()[0][-1]["reason"] == "idle"
        second.until("ready")


def test_a_world_ends_after_its_chunks(serve: Serve) -> None:
    with serve(chunks=5).guest() as guest:
        assert guest.begin(max_chunks=2)["max_chunks"] == 2
        guest.chunk("w")
        assert guest.chunk("w")[1]["chunks_left"] == 0
        guest.say("event", camera_actions="w")
        assert guest.end()[0][-1]["reason"] == "max_chunks"


def test_guests_wait_in_line_and_too_many_are_sent_away(serve: Serve) -> None:
    place = serve(sessions=1, waiting=1)
    with place.guest() as first:
        first.begin()
        with place.guest() as second, place.guest() as third:
            second.say("init", prompt="a street", first_frame=encoded(), pace="step")
            assert second.until("queued")["position"] == 1
            third.say("init", prompt="a street", first_frame=encoded())
            said, code = third.end()
            assert said[-2]["code"] == "full"
            assert code == 1008
            first.socket.close()
            assert second.until("ready", 5)["pace"] == "step"
    place.wait(lambda: (place.house.line.inside, place.house.line.waiting) == (0, 0), 2)


def test_connections_are_counted(serve: Serve) -> None:
    place = serve(connections=1)
    with place.guest() as first:
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            place.guest()
        first.begin()


def test_a_token_is_asked_of_everybody_but_health_and_the_page(serve: Serve) -> None:
    place = serve(token="secret-token")
    for query in ("", "?token=wrong", "?token=%ff"):
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            place.guest(query)
    with place.guest("?token=secret-token") as guest:
        guest.begin()
    with place.guest(additional_headers={"Authorization": "Bearer secret-token"}) as guest:
        guest.begin()
    assert place.get("metrics")[0] == 401
    assert place.get("v1/model")[0] == 401
    assert place.get("metrics", Authorization="Bearer secret-token")[0] == 200
    assert place.get("v1/model?token=secret-token")[0] == 200
    assert place.get("health")[0] == 200
    assert place.get("")[0] == 200


def test_other_pages_and_other_names_are_refused(serve: Serve) -> None:
    place = serve()
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        place.guest(additional_headers={"Origin": "http://evil.example"})
    with place.guest(additional_headers={"Origin": place.url.rstrip("/")}) as guest:
        guest.begin()
    assert place.get("health", Host="evil.example")[0] == 400
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        place.guest(additional_headers={"Host": "evil.example", "Origin": "http://evil.example"})
    assert place.get("health", Host="[::1]:7860")[0] == 200
    assert not same_origin("null", None)
    assert not same_origin("http://localhost:3000", "localhost:7860")


def slow_place(serve: Serve, **limits: Any) -> Place:
    """A server whose chunks take long enough to leave in the middle of one."""
    return serve(steps=400, **limits)


def test_a_session_is_free_within_a_second_of_its_end_even_in_the_middle_of_a_chunk(serve: Serve) -> None:
    place = slow_place(serve)
    for end in (Guest.drop, lambda guest: guest.socket.close()):
        guest = place.guest()
        guest.begin()
        guest.say("event", camera_actions="w")
        guest.until("chunk_started")
        time.sleep(0.2)
        assert place.house.line.inside == 1
        end(guest)
        assert place.wait(lambda: place.house.line.inside == 0, 1.0) < 1.0
        assert place.house.sessions == {}
        assert place.house.worker.waiting == 0
    assert b"sana_wm_chunks_cancelled_total 2.0" in place.get("metrics")[1]


def test_a_session_is_free_at_once_while_the_model_works_for_another(serve: Serve) -> None:
    place = slow_place(serve)
    with place.guest() as other:
        other.begin()
        guest = place.guest()
        guest.begin()
        other.say("event", camera_actions="w")
        other.until("chunk_started")
        guest.say("event", camera_actions="w")
        guest.until("chunk_started")
        place.wait(lambda: place.house.worker.waiting == 1, 1)
        guest.drop()
        assert place.wait(lambda: place.house.line.inside == 1, 1.0) < 1.0
        assert place.house.worker.busy  # with the other's chunk still
        assert place.house.worker.waiting == 0


def test_a_cancelled_chunk_leaves_the_world_as_it_was(serve: Serve) -> None:
    place = slow_place(serve)
    with place.guest() as guest:
        guest.begin()
        guest.say("event", camera_actions="w")
        guest.until("chunk_started")
        guest.say("cancel")
        assert guest.until("cancelled", 2)["node"] == 0
        guest.until("waiting", 2)
        assert place.house.line.inside == 1


def test_who_reads_nothing_is_let_go_and_nothing_piles_up(serve: Serve) -> None:
    place = serve(send_seconds=0.5, pipe=live_pipe(height=192, width=320), steps=1)
    raw = socket.create_connection(("127.0.0.1", int(place.url.rsplit(":", 1)[1].strip("/"))))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with place.guest(sock=raw) as guest:
        guest.begin(first_frame=encoded(width=320, height=192))
        guest.socket.recv_bufsize = 1
        for number in range(6):
            guest.say("event", camera_actions="w", seq=number)
        place.wait(lambda: place.house.line.inside == 0, 30)
        assert b'sana_wm_sessions_ended_total{reason="slow_reader"} 1.0' in place.get("metrics")[1]
        place.wait(lambda: place.sockets == 0, 5)  # although what it was sent was never taken


def test_guests_take_turns(serve: Serve) -> None:
    place = serve()
    with place.guest() as one, place.guest() as two:
        one.begin()
        two.begin()
        for guest in (one, two):
            for _ in range(4):
                guest.say("event", camera_actions="w")
        waits = [guest.until("chunk_stats")["seconds"]["queue"] for _ in range(4) for guest in (one, two)]
        assert len(waits) == 8  # both are served to the end


def test_random_messages_never_break_the_server(serve: Serve) -> None:
    place = serve(wrong_messages=10_000, messages_a_second=1e6, init_seconds=5)
    draw = random.Random(0)
    values: list[Any] = [None, True, -1, 0, 3.5, 1e308, "", "w", "w-24", "\u0000", [], [[]], {}, [None], 2**70]
    names = ["type", "camera_actions", "look", "seq", "node", "paused", "prompt", "condition_inputs", "pace", "x"]
    kinds = ["init", "event", "rewind", "pause", "cancel", "nothing"]
    with place.guest() as guest:
        guest.begin(pace="live")
        for _ in range(400):
            message = {draw.choice(names): draw.choice(values) for _ in range(draw.randrange(4))}
            if draw.random() < 0.9:
                message["type"] = draw.choice(kinds)
            text = json.dumps(message)
            if draw.random() < 0.2:
                at = draw.randrange(len(text))
                text = text[:at] + draw.choice(["", "\\", '"', "}", "\u2028"]) + text[at + 1 :]
            guest.socket.send(text)
            if draw.random() < 0.2:
                guest.hear()
        guest.say("rewind", node=0)
        guest.until("rewound", 60)
        guest.say("pause", paused=False)
        guest.say("event", camera_actions="w")
        guest.until("chunk_stats", 60)
    # Bytes that are no WebSocket at all.
    raw = socket.create_connection(("127.0.0.1", int(place.url.rsplit(":", 1)[1].strip("/"))))
    raw.sendall(draw.randbytes(5000))
    raw.close()
    assert place.get("health")[0] == 200
    place.wait(lambda: place.house.connections == 0, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_what_guests_bring_and_take_home_waits_for_the_model(serve: Serve) -> None:
    house = serve().house

    def rank() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    mine = house.worker.submit(rank).done.result()
    assert mine == rank() == house.kitchen.submit(rank).result()
    assert house.door.submit(rank).result() > mine
    assert house.parcels.submit(rank).result() > mine
