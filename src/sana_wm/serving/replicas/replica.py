"""One of several servers: a model and its guests, in a process that Ray Serve starts, watches and replaces."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

import torch
from ray import serve

from sana_wm.engine.source import ModelSource
from sana_wm.serving.app import create_app
from sana_wm.serving.house import House
from sana_wm.serving.limits import Limits
from sana_wm.serving.live_plan import live_plan
from sana_wm.serving.run import listen, make_server

HERE = "127.0.0.1"


@dataclass(frozen=True)
class Setup:
    """What all replicas are made with; see :class:`~sana_wm.serving.house.House` and the flags of `sana-wm serve`."""

    source: ModelSource
    threads: int
    step: int | None
    chunk: int | None
    limits: Limits
    token: str | None
    local: bool


@dataclass(frozen=True)
class Address:
    """Where a replica listens on this machine. A replica that takes the place of another has another name."""

    name: str
    port: int
    process: int


class Replica:
    """The application of a single server as it is, on a port that nobody else on the network can reach."""

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        pipe = setup.source.load()
        self._house = House(pipe, live_plan(pipe, setup.step, setup.chunk), setup.limits, setup.token)
        self._house.warm_up()
        listener = listen(HERE, 0)
        self._server = make_server(create_app(self._house, local=setup.local), setup.limits)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="sana-wm guests", daemon=True)
        self._thread.start()
        name = serve.get_replica_context().replica_id.unique_id
        self._address = Address(name, listener.getsockname()[1], os.getpid())

    def address(self) -> Address:
        """Where the door finds it."""
        return self._address

    def check_health(self) -> None:
        """Called by Ray Serve now and then; a replica that raises is replaced."""
        if not (self._thread.is_alive() and self._house.worker.alive):
            raise RuntimeError("the model has stopped")

    def __del__(self) -> None:
        """Called by Ray Serve at the end: guests hear that it is over."""
        if hasattr(self, "_thread"):
            self._server.should_exit = True
            self._thread.join(5)
