"""One guest's walk: from `init` to the moment that everything it held is free again."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import anyio
import numpy as np
import numpy.typing as npt
from torch import Tensor

from sana_wm.engine.failure import GenerationError
from sana_wm.engine.growing_mp4 import Fragment, encode_fragment
from sana_wm.errors import InputError
from sana_wm.serving.channel import Channel, Left, error_fields
from sana_wm.serving.clip import encode_pictures
from sana_wm.serving.history import Node, PathTree
from sana_wm.serving.house import House
from sana_wm.serving.making import Made, fit_beginning, make_chunk, pack_frames, top_view
from sana_wm.serving.messages import Cancel, Event, FrameKeys, Init, Message, Pause, ProtocolError, Rewind
from sana_wm.serving.moves import Controls, action_string
from sana_wm.serving.walk import Beginning, Step
from sana_wm.serving.worker import CancelledStep, Job

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

IDLE_CHUNKS = 1
"""Chunks that a live world goes on for when nothing is held: the camera coasts, then it waits."""
MARGIN_SECONDS = 0.15
"""A live chunk begins so much earlier than it must in order to be there when the one before has been shown."""
SOON_SECONDS = 0.15
"""A chunk that is done so soon is waited for when keys change."""
STEPS_AHEAD = 8
"""Events that a stepped world keeps for later."""


@dataclass
class Order:
    """A chunk under way: its keys, what was held just before they were chosen, and whether they are news."""

    keys: FrameKeys
    seq: int
    controls: Controls
    news: bool


class Session:
    """See docs/serving.md for what is said. All of it runs on the event loop but for what `making.py` does."""

    def __init__(self, house: House, channel: Channel) -> None:
        self.house, self.channel = house, channel
        self.name = secrets.token_urlsafe(18)
        self.tree: PathTree | None = None
        self.beginning: Beginning | None = None
        self._init: Init | None = None
        self._controls = Controls(0.0)
        self._steps: list[Event] = []
        self._paused = False
        self._waits = False  # for the guest; else the guest waits for chunks, or in the line
        self._idle = 0  # chunks that are still made although nothing is held
        self._changed = asyncio.Event()
        self._job: Job | None = None
        self._order: Order | None = None
        self._last: FrameKeys | None = None  # keys of the chunk before
        self._seconds = 0.0  # that it took
        self._turns = 0  # counts rewinds, so that a chunk of before is known
        self._shown_until = self._due = 0.0  # when the last chunk has been shown; when the next one is to begin
        self._encoding: asyncio.Task[None] | None = None

    async def run(self) -> str:
        """All of it; returns why it ended."""
        tasks = [asyncio.create_task(part()) for part in (self._listen, self.channel.send, self._walk)]
        left, said = Left("disconnected"), None
        try:
            limit = self.house.limits.session_seconds
            done, _ = await asyncio.wait(tasks, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            left = Left("session_over")
            for task in done:
                left, said = _why(task)
        finally:
            await _end([*tasks, *([self._encoding] if self._encoding is not None else [])])
            self.house.sessions.pop(self.name, None)
            if self.tree is not None:
                self.tree.clear()
            self._init = self.beginning = self._job = self._order = None
        await self.channel.close(left, said)
        return left.reason

    async def _listen(self) -> None:
        """Take messages, and complain of those that cannot be obeyed."""
        wrong = 0
        while True:
            try:
                message = await self.channel.receive(began=self._init is not None)
                await self._obey(message)
            except Left as left:
                if left.reason != "idle" or self._waits:
                    raise
            except ProtocolError as error:
                self.house.metrics.refused.labels(error.code).inc()
                wrong += 1
                if error.fatal:
                    raise
                if wrong > self.house.limits.wrong_messages:
                    raise ProtocolError(error.code, f"{error} That was one too many.", fatal=True) from error
                await self.channel.say("error", **error_fields(error))

    async def _obey(self, message: Message) -> None:
        if isinstance(message, Init):
            self._init = message
            self._controls = Controls(message.rotation_speed_deg)
            self.channel.begun()
        elif self.tree is None and not isinstance(message, Event | Pause):
            raise ProtocolError("out_of_order", "the world has not begun; wait for ready.")
        elif isinstance(message, Event):
            self._take(message)
        elif isinstance(message, Pause):
            await self.channel.room()
            self._paused = message.paused
            self.channel.put("paused", paused=self._paused)
        elif isinstance(message, Rewind | Cancel):
            assert self.tree is not None
            await self.channel.room()
            node = self.tree.current if isinstance(message, Cancel) else self.tree.go(message.node)
            self._stop_step()
            self._put_where("cancelled" if isinstance(message, Cancel) else "rewound", node)
        self._changed.set()

    def _take(self, event: Event) -> None:
        assert self._init is not None
        count = self.house.frames_a_step
        if isinstance(event.keys, tuple) and len(event.keys) != count:
            said = f"camera_actions has the keys of {len(event.keys)} frames; a chunk has {count} new ones."
            raise ProtocolError("wrong_value", said)
        if self._init.pace == "live":
            self._controls.take(event)
            self._idle = IDLE_CHUNKS if self._controls.active else self._idle
            self._reconsider(event)
        elif len(self._steps) >= STEPS_AHEAD:
            raise ProtocolError("too_many", f"{STEPS_AHEAD} events wait already; wait for their chunks.")
        else:
            self._steps.append(event)

    def _reconsider(self, event: Event) -> None:
        """Make the chunk under way with other keys, if an event has changed them.

        One that has begun is begun anew only if it goes on as the one before and would not be done soon: so a change
        is seen after the time of one chunk, and whatever comes how fast, every second chunk is finished.
        """
        order, job = self._order, self._job
        if order is None or job is None:
            return
        order.controls.take(event)
        now = order.controls.fork()
        keys, seq = now.next(self.house.frames_a_step), now.seq
        if keys == order.keys:
            return
        assert self.tree is not None
        world = self.tree.current.world
        if world is not None and self.house.worker.change(job, partial(make_chunk, world, keys)):
            order.keys, order.seq, self._controls = keys, seq, now
            return
        left = 0.0 if job.begun is None else job.begun + self._seconds - time.perf_counter()
        if left > SOON_SECONDS and not order.news:
            self.house.worker.cancel(job)

    def _stop_step(self) -> None:
        """What is being made is not wanted any more, nor what was asked for next."""
        self._turns += 1
        self._idle = 0
        self._shown_until = self._due = 0.0
        self._last = self._order = None
        self._controls.release()
        self._steps.clear()
        if self._job is not None:
            self.house.worker.cancel(self._job)

    async def _walk(self) -> None:
        """Make chunks for as long as they are asked for."""
        while self._init is None:
            self._changed.clear()
            await self._changed.wait()
        await self.house.line.enter(lambda place: self.channel.say("queued", position=place))
        try:
            await self._begin(self._init)
            while True:
                await self._wait_for_keys(self._init)
                made = await self._make(self._init)
                if made is not None:
                    await self._deliver(*made)
        finally:
            self.house.line.leave()

    async def _begin(self, init: Init) -> None:
        house = self.house
        try:
            fitted = await house.aside(house.door, partial(fit_beginning, house.pipe, init, house.limits))
            self.beginning, picture = fitted
            world = await self._work(partial(self.beginning.begin, house.pipe, house.plan))
        except ProtocolError:
            raise
        except InputError as error:
            raise ProtocolError("wrong_value", f"init: {error}", fatal=True) from error
        self._init = replace(init, first_frame=None)
        parts = await house.aside(house.kitchen, partial(encode_pictures, picture, init.encoding))
        await self.channel.room(2)
        self.tree = PathTree(world, house.limits)
        house.sessions[self.name] = self
        settings = house.pipe.settings
        self.channel.put(
            "ready", session=self.name, width=settings.width, height=settings.height, fps=settings.fps,
            frames_a_chunk=house.frames_a_step, seed=init.seed, max_chunks=init.max_chunks, pace=init.pace,
            encoding=init.encoding, kept=self.tree.kept(),
        )  # fmt: skip
        self._show(self.tree.current, picture, parts, world.c2w[None], 0)

    async def _work(self, what: Callable[[], Result]) -> Result:
        """See :meth:`House.work`; while it goes on, `_job` is what has it done."""
        try:
            return await self.house.work(what, self._started)
        except GenerationError as error:
            raise ProtocolError("generation_failed", str(error), fatal=True) from error
        finally:
            self._job = None  # which holds what was made

    def _started(self, job: Job) -> None:
        self._job = job

    async def _wait_for_keys(self, init: Init) -> None:
        """Return when a chunk is due, and there is room to say so."""
        told = False
        while True:
            self._changed.clear()
            await self.channel.room()
            wanted = bool(self._steps) if init.pace == "step" else self._controls.active or self._idle > 0
            self._waits = self._paused or not wanted
            wait = None if self._waits else self._due - time.monotonic()
            if wait is not None and wait <= 0:
                return
            if wait is None and not told:
                told = True
                self.channel.put("waiting", paused=self._paused)
            if wait is None and await self._remember():
                continue
            with anyio.move_on_after(wait):
                await self._changed.wait()

    async def _remember(self) -> bool:
        """Do what the next chunk would begin with, if the model has nothing else to do; whether it was done."""
        assert self.tree is not None
        world = self.tree.current.world
        if world is None or world.state.finished is None or self.house.worker.busy:
            return False
        try:
            await self._work(world.remember)
        except CancelledStep:
            return False
        return True

    def _choose(self, init: Init) -> Order:
        """The keys of a chunk that begins now."""
        if init.pace == "step":
            event = self._steps.pop(0)
            self._controls.release()
            self._controls.take(event)
        elif not self._controls.active:
            self._idle -= 1
        before = self._controls.fork()
        keys = self._controls.next(self.house.frames_a_step)
        return Order(keys, before.seq, before, keys != self._last)

    async def _make(self, init: Init) -> tuple[Order, Made, float] | None:
        """A chunk and when it was asked for; None if it was cancelled."""
        assert self.tree is not None
        if len(self.tree) >= init.max_chunks:
            raise Left("max_chunks")
        parent, turns = self.tree.current, self._turns
        assert parent.world is not None
        order = self._order = self._choose(init)
        self.channel.put(
            "chunk_started", parent=parent.number, chunk=parent.chunk, keys=action_string(order.keys), seq=order.seq
        )
        asked, made = time.perf_counter(), None
        try:
            made = await self._work(partial(make_chunk, parent.world, order.keys))
        except asyncio.CancelledError:  # the guest has left
            self.house.metrics.cancelled.inc()
            raise
        except CancelledStep:
            if turns == self._turns:  # by a change of keys
                self._controls = order.controls
        finally:
            self._order = None
        if made is None or turns != self._turns:
            self.house.metrics.cancelled.inc()
            return None
        self._seconds = made.denoise + made.decode
        return order, made, asked

    async def _deliver(self, order: Order, made: Made, asked: float) -> None:
        """Give a chunk to the guest, unless he has gone elsewhere meanwhile."""
        assert self.tree is not None
        assert self._init is not None
        turns, metrics = self._turns, self.house.metrics
        packing = partial(pack_frames, made.frames, self._init.encoding)
        parts, sha256 = await self.house.aside(self.house.kitchen, packing)
        if self._encoding is not None:
            await self._encoding
        await self.channel.room(2)
        if turns != self._turns:
            metrics.cancelled.inc()
            return
        seconds = {"queue": made.begins - asked, "denoise": made.denoise, "decode": made.decode}
        count, keys, world = len(made.frames), action_string(order.keys), made.world
        first = world.num_frames - count
        node = self.tree.add(world, Step(keys, sha256))
        self._last = order.keys
        if self._init.pace == "live":
            self._shown_until = max(self._shown_until, time.monotonic()) + count / self.house.pipe.settings.fps
            self._due = self._shown_until - sum(seconds.values()) - MARGIN_SECONDS
        metrics.chunks.inc()
        metrics.frames.inc(count)
        for stage, value in seconds.items():
            metrics.seconds.labels(stage).observe(value)
        self._show(node, made.frames, parts, made.c2w, first, parent=node.parent, seq=order.seq, keys=keys)
        self.channel.put(
            "chunk_stats", node=node.number, parent=node.parent, chunk=node.chunk - 1, keys=keys, sha256=sha256,
            seconds={name: round(value, 4) for name, value in seconds.items()}, seq=order.seq,
            num_frames=world.num_frames, kept=self.tree.kept(), chunks_left=self._init.max_chunks - len(self.tree),
        )  # fmt: skip
        self._encoding = asyncio.create_task(self._film(self.tree, node, made.frames, first))

    def _show(
        self, node: Node, frames: npt.NDArray[np.uint8], parts: list[bytes], c2w: Tensor, first: int, **more: Any
    ) -> None:
        assert self._init is not None
        head = {
            "type": "frame_batch", "node": node.number, "chunk": node.chunk - 1, "first_frame": first,
            "num_frames": len(frames), "height": frames.shape[1], "width": frames.shape[2],
            "encoding": self._init.encoding, "poses": top_view(c2w),
        }  # fmt: skip
        self.channel.show(head | more, parts)

    async def _film(self, tree: PathTree, node: Node, frames: npt.NDArray[np.uint8], first: int) -> None:
        """What a download needs, while the next chunk is made."""
        encoding = partial(encode_fragment, frames, self.house.pipe.settings.fps, first, node.chunk - 1)
        tree.film(node, await self.house.aside(self.house.kitchen, encoding))

    def _put_where(self, kind: str, node: Node) -> None:
        assert self.tree is not None
        assert node.world is not None
        pose = top_view(node.world.c2w[None])[0]
        path = [0, *(one.number for one in self.tree.path(node.number))]
        self.channel.put(kind, node=node.number, pose=pose, path=path, kept=self.tree.kept())

    async def fragments(self, nodes: list[Node]) -> list[Fragment]:
        """The parts of a video of these nodes.

        Raises:
            ProtocolError: one of them is not kept any more.
        """
        if self._encoding is not None:
            await asyncio.wait([self._encoding])
        found = [node.fragment for node in nodes if node.fragment is not None]
        if len(found) < len(nodes):
            raise ProtocolError("gone", "the video of these chunks is no longer kept; ask for later ones.")
        return found


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done: a cancellation can be lost where it meets a message that came just then."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)
    for task in tasks:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Left | ProtocolError):
            logger.error("a part of a session failed", exc_info=error)


def _why(task: asyncio.Task[None]) -> tuple[Left, ProtocolError | None]:
    """Why a part of a session ended; a bug of ours is raised again."""
    error = task.exception()
    if isinstance(error, Left):
        return error, None
    if isinstance(error, ProtocolError):
        return Left(error.code, 1008), error
    if error is not None:
        raise error
    raise RuntimeError("a part of a session ended without a reason")
