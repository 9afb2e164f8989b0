"""A real server on a free port, in a thread, around a tiny real model."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt
import pytest

from sana_wm.engine.pipeline import SanaWMPipeline
from tests.engine.tiny import SETTINGS, picture, tiny_components

INSTALL = "needs the packages of the extra 'serve'"
pytest.importorskip("fastapi", reason=INSTALL)
pytest.importorskip("uvicorn", reason=INSTALL)
pytest.importorskip("prometheus_client", reason=INSTALL)
client = pytest.importorskip("websockets.sync.client", reason=INSTALL)

from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

from sana_wm.engine.stream_plan import plan_stream  # noqa: E402
from sana_wm.serving.app import FILES, PAGE, create_app, same_origin  # noqa: E402
from sana_wm.serving.house import House  # noqa: E402
from sana_wm.serving.limits import Limits  # noqa: E402
from sana_wm.serving.run import address, listen, make_server  # noqa: E402

__all__ = [
    "FILES", "PAGE", "Batch", "ConnectionClosed", "Guest", "InvalidStatus", "Place", "Serve", "encoded", "live_pipe",
    "same_origin",
]  # fmt: skip


@dataclass
class Batch:
    """A `frame_batch` as it came."""

    head: dict[str, Any]
    parts: list[bytes]

    @property
    def frames(self) -> npt.NDArray[np.uint8]:
        """Of a raw batch."""
        shape = (self.head["num_frames"], self.head["height"], self.head["width"], 3)
        return np.frombuffer(b"".join(self.parts), np.uint8).reshape(shape)


class Guest:
    """A client that speaks the protocol of docs/serving.md."""

    def __init__(self, url: str, **options: Any) -> None:
        self._connection = client.connect(url, max_size=None, open_timeout=20, close_timeout=1, **options)
        self.socket = self._connection.__enter__()
        self.seen: list[dict[str, Any]] = []

    def say(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def hear(self, timeout: float = 30.0) -> dict[str, Any] | Batch:
        message = self.socket.recv(timeout)
        if isinstance(message, str):
            self.seen.append(json.loads(message))
            return self.seen[-1]
        size = int.from_bytes(message[:4], "big")
        head = json.loads(message[4 : 4 + size])
        self.seen.append(head)
        parts, at = [], 4 + size
        for length in head["sizes"]:
            parts.append(message[at : at + length])
            at += length
        assert at == len(message)
        return Batch(head, parts)

    def until(self, kind: str, timeout: float = 30.0) -> dict[str, Any]:
        """The next message of a kind that is not about frames."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            found = self.hear(timeout)
            if isinstance(found, dict) and found["type"] == kind:
                return found
        raise AssertionError(f"no {kind}; seen: {[one['type'] for one in self.seen]}")

    def batch(self) -> Batch:
        while True:
            found = self.hear()
            if isinstance(found, Batch):
                return found

    def begin(self, **fields: Any) -> dict[str, Any]:
        """`init` with a picture; returns `ready`."""
        first = {"prompt": "a street", "first_frame": encoded(), "encoding": "raw", "pace": "step"}
        self.say("init", **first | fields)
        ready = self.until("ready")
        assert self.batch().head["first_frame"] == 0
        return ready

    def chunk(self, keys: Any, **fields: Any) -> tuple[Batch, dict[str, Any]]:
        """One chunk of a stepped world."""
        self.say("event", camera_actions=keys, **fields)
        batch = self.batch()
        return batch, self.until("chunk_stats")

    def end(self, timeout: float = 20.0) -> tuple[list[dict[str, Any]], int | None]:
        """Everything said until the server hangs up, and its code."""
        said = []
        try:
            while True:
                found = self.hear(timeout)
                if isinstance(found, dict):
                    said.append(found)
        except ConnectionClosed as closed:
            return said, None if closed.rcvd is None else closed.rcvd.code

    def drop(self) -> None:
        """Vanish without a goodbye."""
        self.socket.socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *reason: object) -> None:
        self.socket.close()


@dataclass
class Place:
    """A running server."""

    house: House
    url: str
    server: Any

    @property
    def sockets(self) -> int:
        """Connections that are open, all counted."""
        return len(self.server.server_state.connections)

    def raw(self) -> socket.socket:
        """A connection on which nothing has been said."""
        return socket.create_connection(("127.0.0.1", int(self.url.rsplit(":", 1)[1].strip("/"))), timeout=20)

    @property
    def world(self) -> str:
        return self.url.replace("http", "ws", 1) + "v1/world"

    def guest(self, query: str = "", **options: Any) -> Guest:
        return Guest(self.world + query, **options)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        try:
            with urlopen(Request(self.url + path, headers=headers), timeout=20) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def wait(self, holds: Callable[[], bool], seconds: float) -> float:
        """Seconds until something holds."""
        begin = time.monotonic()
        while not holds():
            assert time.monotonic() - begin < seconds, "it did not come to hold"
            time.sleep(0.005)
        return time.monotonic() - begin


Serve = Callable[..., Place]


def encoded(form: str = "PNG", **size: int) -> str:
    buffer = io.BytesIO()
    picture(**size).save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


def live_pipe(**settings: Any) -> SanaWMPipeline:
    parts = tiny_components(replace(SETTINGS, **settings))
    return SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings, name="tiny")


@contextmanager
def running(pipe: SanaWMPipeline, limits: Limits, token: str | None = None, steps: int = 2) -> Iterator[Place]:
    house = House(pipe, plan_stream(pipe.settings, steps), limits, token)
    listener = listen("127.0.0.1", 0)
    server = make_server(create_app(house), limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield Place(house, address(listener), server)
        assert house.worker.alive
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def shared_pipe() -> SanaWMPipeline:
    pipe = live_pipe()
    house = House(pipe, plan_stream(pipe.settings, 2), Limits())
    house.warm_up()
    house.close()
    return pipe


@pytest.fixture
def serve(shared_pipe: SanaWMPipeline) -> Iterator[Serve]:
    """Starts a server with these limits; it stops when the test is over."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(token: str | None = None, pipe: SanaWMPipeline | None = None, steps: int = 2, **limits: Any) -> Place:
            return stack.enter_context(running(pipe or shared_pipe, Limits(**limits), token, steps))

        yield start
