"""Two replicas behind one door are one server: same frames, same limits, and what dies takes only its own along."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import torch

from tests.serving.live import ConnectionClosed, Guest, InvalidStatus, Serve, encoded, live_pipe

pytest.importorskip("ray.serve", reason="needs the packages of the extra 'ray'", exc_type=ImportError)

from sana_wm.checkpoints.save import save_pretrained
from sana_wm.engine.source import ModelSource
from sana_wm.serving.limits import Limits
from sana_wm.serving.ray_machine import RayMachine
from sana_wm.serving.replicas.crowd import Crowd
from sana_wm.serving.replicas.door import create_door
from sana_wm.serving.replicas.replica import Setup
from sana_wm.serving.replicas.run import deployed
from sana_wm.serving.run import address, listen, make_server
from tests.engine.tiny import SETTINGS, tiny_components

TOKEN, STEPS, SIZE = "secret-token", 2, {"height": 192, "width": 320}


@dataclass
class Doorway:
    """A running door with two replicas."""

    crowd: Crowd
    url: str

    def guest(self, query: str = f"?token={TOKEN}", **options: Any) -> Guest:
        return Guest(self.url.replace("http", "ws", 1) + "v1/world" + query, **options)

    def begin(self, **options: Any) -> tuple[Guest, str]:
        guest = self.guest(**options)
        return guest, guest.begin(first_frame=encoded(**SIZE))["session"]

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        wanted = {"Authorization": f"Bearer {TOKEN}", **headers}
        try:
            with urlopen(Request(self.url + path, headers=wanted), timeout=20) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def health(self) -> dict[str, Any]:
        return json.loads(self.get("health")[1])

    def wait(self, holds: Callable[[], bool], seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends, "it did not come to hold"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doorway]:
    model = tmp_path_factory.mktemp("models") / "tiny"
    save_pretrained(model, tiny_components(replace(SETTINGS, **SIZE)))
    limits = Limits(sessions=2, send_seconds=0.5)
    with RayMachine(torch.device("cpu"), 2) as machine:
        setup = Setup(ModelSource(str(model), machine.device), 1, STEPS, 3, limits, TOKEN, local=True)
        with deployed(setup, machine) as handle, listen("127.0.0.1", 0) as listener:
            crowd = Crowd(handle, 2)
            server = make_server(create_door(crowd, limits), limits)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            place = Doorway(crowd, address(listener))
            place.wait(lambda: len(crowd.by_guests()) == 2, 20)
            yield place
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def hashes(guest: Guest) -> list[str]:
    return [guest.chunk(keys)[1]["sha256"] for keys in ("w", "wd")]


def send_and_hear(guest: Guest, text: str) -> None:
    for _ in range(10):
        guest.socket.send(text)
        guest.hear(5)


def test_both_replicas_make_the_frames_of_one_process(door: Doorway, serve: Serve) -> None:
    with serve(pipe=live_pipe(**SIZE), steps=STEPS).guest() as guest:
        guest.begin(first_frame=encoded(**SIZE))
        alone = hashes(guest)
    (one, first), (two, second) = door.begin(), door.begin()
    with one, two:
        assert door.crowd.home(first) != door.crowd.home(second)
        assert hashes(one) == hashes(two) == alone
        assert door.health()["sessions"] == 2
        for session in (first, second):
            for path in ("walk", "video"):
                assert door.get(f"v1/sessions/{session}/{path}")[0] == 200
        metrics = door.get("metrics")[1].decode()
        counted = [line for line in metrics.splitlines() if line.startswith("sana_wm_frames_total{")]
        assert len(counted) == 2  # one line a replica
        assert metrics.count("# TYPE sana_wm_frames_total counter") == 1
    door.wait(lambda: door.health()["sessions"] == 0, 3)
    assert door.get(f"v1/sessions/{first}/walk")[0] == 404
    assert door.crowd.home(first) is None


def test_who_may_come_in_is_the_same_as_without_a_door(door: Doorway) -> None:
    for query in ("", "?token=wrong"):
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            door.guest(query)
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        door.guest(additional_headers={"Origin": "http://evil.example"})
    with door.guest("", additional_headers={"Authorization": f"Bearer {TOKEN}", "Origin": door.url.rstrip("/")}) as one:
        one.begin(first_frame=encoded(**SIZE))
    assert door.get("metrics", Authorization="")[0] == 401
    assert door.get("v1/model", Authorization="")[0] == 401
    assert door.get("health", Host="evil.example")[0] == 400
    assert door.get("", Authorization="")[0] == 200
    assert door.get("page/%2e%2e%2fapp.py")[0] == 404
    assert door.health()["places"] == 4


def test_what_is_bounded_stays_bounded(door: Doorway) -> None:
    with door.begin()[0] as guest, pytest.raises(ConnectionClosed):
        send_and_hear(guest, "x" * 7_000_000)
    with door.begin()[0] as guest:
        guest.socket.send(json.dumps({"type": "event", "camera_actions": "w" * 10**6}))
        _, code = guest.end()
        assert code == 1009  # before it is read
    raw = socket.create_connection(("127.0.0.1", int(door.url.rsplit(":", 1)[1].strip("/"))))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with door.begin(sock=raw)[0] as guest:  # who reads nothing
        guest.socket.recv_bufsize = 1
        for number in range(8):
            guest.say("event", camera_actions="w", seq=number)
        door.wait(lambda: door.health()["sessions"] == 0, 60)


def test_a_killed_replica_takes_its_own_sessions_along_and_no_others(door: Doorway) -> None:
    (one, first), (two, second) = door.begin(), door.begin()
    with one, two:
        before = hashes(one)
        lost, kept = door.crowd.home(first), door.crowd.home(second)
        assert lost is not None
        assert kept is not None
        assert lost.name != kept.name
        os.kill(lost.process, signal.SIGKILL)
        said, code = one.end(5)
        assert [(m["type"], m.get("code"), m.get("reason")) for m in said[-2:]] == [
            ("error", "replica_lost", None), ("closed", None, "replica_lost"),
        ]  # fmt: skip
        assert said[-2]["fatal"] is True
        assert code == 1012
        with door.begin()[0] as new:  # at once, by the other one
            assert hashes(new) == before
        assert hashes(two) == before
    door.wait(lambda: len(door.crowd.by_guests()) == 2, 60)  # Ray Serve has started another
    assert lost.name not in {one.name for one in door.crowd.by_guests()}
    (one, first), (two, second) = door.begin(), door.begin()
    with one, two:
        assert door.crowd.home(first) != door.crowd.home(second)
        assert hashes(one) == hashes(two) == before
