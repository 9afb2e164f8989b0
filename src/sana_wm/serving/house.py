"""What all guests of a server share."""

from __future__ import annotations

import asyncio
import hmac
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.world import World
from sana_wm.geometry.intrinsics import DEFAULT_FOV_DEG
from sana_wm.models.config import StreamSettings
from sana_wm.serving.limits import Limits
from sana_wm.serving.line import Line
from sana_wm.serving.metrics import Metrics
from sana_wm.serving.worker import Job, Worker

if TYPE_CHECKING:
    from sana_wm.serving.session import Session

Result = TypeVar("Result")


class House:
    """One model, one thread that runs it, and the sessions by their secret names.

    `door` unpacks what guests bring, one thing at a time, so that large pictures wait for each other and not those
    inside for them; `kitchen` encodes what they are given; `parcels` joins what they take home.
    """

    def __init__(self, pipe: SanaWMPipeline, plan: StreamSettings, limits: Limits, token: str | None = None) -> None:
        pipe.codec.check_streams()
        self.pipe, self.plan, self.limits, self._token = pipe, plan, limits, token
        self.connections = 0
        self.worker = Worker(pipe)
        self.door = ThreadPoolExecutor(1, "sana-wm door", _step_back)
        self.kitchen = ThreadPoolExecutor(2, "sana-wm kitchen")
        self.parcels = ThreadPoolExecutor(1, "sana-wm parcels", _step_back)
        self.line = Line(limits.sessions, limits.waiting)
        self.metrics = Metrics()
        self.metrics.sessions.set_function(lambda: self.line.inside)
        self.metrics.waiting.set_function(lambda: self.line.waiting)
        self.metrics.connections.set_function(lambda: self.connections)
        self.sessions: dict[str, Session] = {}

    def allows(self, token: str | None) -> bool:
        """Whether somebody with this token may come in."""
        if self._token is None:
            return True
        return token is not None and hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode())

    @property
    def frames_a_step(self) -> int:
        return self.plan.chunks.size * self.pipe.codec.temporal_stride

    @staticmethod
    async def aside(pool: ThreadPoolExecutor, what: Callable[[], Result]) -> Result:
        """Run `what` in one of the pools; if the caller is cancelled before it began, it never does."""
        return await asyncio.get_running_loop().run_in_executor(pool, what)

    async def work(self, what: Callable[[], Result], started: Callable[[Job], None]) -> Result:
        """Run `what` on the model's thread. If the caller is cancelled, so is the work, and this ends with it.

        started: gets the job, by which somebody else may cancel it.

        Raises:
            CancelledStep: the job was cancelled, not the caller.
        """
        job = self.worker.submit(what)
        started(job)
        future = asyncio.wrap_future(job.done)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.worker.cancel(job)
            while not future.done():  # what it holds is free when this ends, however often it is cancelled
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # it was seen
            raise

    def warm_up(self) -> None:
        """Make a chunk that nobody sees, so that the first guest does not wait for imports and compilers."""
        size = self.pipe.settings.height, self.pipe.settings.width
        plan = replace(self.plan, timesteps=(self.plan.timesteps[0], 0.0))
        picture = Image.effect_mandelbrot((size[1], size[0]), (-2, -1, 1, 1), 20).convert("RGB")

        def step() -> None:
            with World.begin(self.pipe, picture, "a street", fov=DEFAULT_FOV_DEG, plan=plan) as world:
                world.step("w")

        self.worker.submit(step).done.result()

    def close(self) -> None:
        """End the threads; nothing can be asked for after this."""
        self.worker.close()
        for pool in (self.door, self.kitchen, self.parcels):
            pool.shutdown(cancel_futures=True)


def _step_back() -> None:
    """Let the model's threads and the event loop go first, where a thread has a priority of its own."""
    if sys.platform == "linux":
        os.nice(10)
