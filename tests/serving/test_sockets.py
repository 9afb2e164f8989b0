"""A connection is over soon after it should be, whatever is at its other end."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress

import pytest

from tests.serving.live import ConnectionClosed, Place, Serve

WAITS = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


def gone(line: socket.socket, seconds: float) -> float:
    """Seconds until the server hangs up."""
    begin = time.monotonic()
    line.settimeout(seconds)
    with suppress(ConnectionResetError):
        while line.recv(2**16):
            pass
    return time.monotonic() - begin


def test_a_request_has_to_be_there_soon(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sana_wm.serving.sockets.HEAD_SECONDS", 0.3)
    place = serve()
    for said in (b"", b"GET /hea", WAITS, WAITS + b"\r\n" + WAITS):
        with place.raw() as line:
            line.sendall(said)
            assert gone(line, 5) < 2
    place.wait(lambda: place.sockets == 0, 2)


def test_a_request_is_short(serve: Serve) -> None:
    place = serve()
    for more in (b"X: " + b"x" * 10**5, b"X: 1\r\n" * 20_000, b"Content-Length: 9999999\r\n\r\n" + b"x" * 10**5):
        with place.raw() as line, suppress(ConnectionResetError, BrokenPipeError):
            line.sendall(WAITS + more)
            assert gone(line, 5) < 2
    place.wait(lambda: place.sockets == 0, 2)


def test_connections_have_a_bound_and_those_inside_stay(serve: Serve) -> None:
    place = serve(connections=2)
    with place.guest() as guest:
        guest.begin()
        lines = [place.raw() for _ in range(place.house.limits.sockets + 20)]
        place.wait(lambda: place.sockets >= place.house.limits.sockets, 5)
        time.sleep(0.2)
        assert place.sockets == place.house.limits.sockets
        guest.chunk("w")
        for line in lines:
            line.close()
        place.wait(lambda: place.get("health")[0] == 200, 5)


def closing(place: Place, begun: bool, *messages: object) -> int | None:
    with place.guest() as guest:
        if begun:
            guest.begin()
        with suppress(ConnectionClosed):
            for message in messages:
                guest.socket.send(message)  # type: ignore[arg-type]
        return guest.end(5)[1]


def test_a_message_has_not_too_many_fragments(serve: Serve) -> None:
    place = serve()
    for begun in (False, True):
        assert closing(place, begun, [""] * 2000 + ["{}"]) == 1009
    place.wait(lambda: place.house.connections == 0, 2)


def test_a_message_that_is_no_text_ends_the_session_and_not_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    place = serve()
    logging.getLogger("uvicorn").addHandler(caplog.handler)  # which hands nothing on
    with place.guest() as guest:
        guest.begin()
        guest.socket.send(b"\xff\xfe{", text=True)
        assert guest.end(5)[1] == 1007
    place.wait(lambda: place.house.connections == 0, 2)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_pings_that_are_too_many_end_the_session(serve: Serve) -> None:
    place = serve()
    with place.guest() as guest:
        guest.begin()
        with suppress(ConnectionClosed):
            for _ in range(500):
                guest.socket.ping()
                time.sleep(0.001)
        assert guest.end(5)[1] == 1008
    place.wait(lambda: place.house.connections == 0, 2)


def test_who_does_not_say_goodbye_back_is_gone_too(serve: Serve) -> None:
    place = serve(init_seconds=0.2)
    with place.raw() as line:
        line.sendall(
            b"GET /v1/world HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        assert gone(line, 10) < 4
    place.wait(lambda: place.sockets == 0, 2)
