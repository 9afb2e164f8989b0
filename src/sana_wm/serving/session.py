"""One guest's walk: from `init` to the moment that everything it held is free again."""

from __future__ import annotations

import asyncio
import io
import logging
import secrets
import time
from dataclasses import dataclass, replace
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sana_wm.engine.example import load_example
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.growing_mp4 import Fragment, encode_fragment
from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.serving.channel import Channel, Left, error_fields
from sana_wm.serving.clip import encode_pictures
from sana_wm.serving.history import Node, PathTree
from sana_wm.serving.house import House
from sana_wm.serving.messages import Cancel, Event, FrameKeys, Init, Message, Pause, ProtocolError, Rewind
from sana_wm.serving.moves import Controls, action_string
from sana_wm.serving.pictures import decode_picture
from sana_wm.serving.walk import Beginning, Step, chunk_hash
from sana_wm.serving.worker import CancelledStep, Job

logger = logging.getLogger(__name__)

IDLE_CHUNKS = 1
"""Chunks that a live world goes on for when nothing is held: the camera coasts, then it waits."""
MARGIN_SECONDS = 0.15
"""A live chunk begins so much earlier than it must in order to be there when the one before has been shown."""
STEPS_AHEAD = 8
"""Events that a stepped world keeps for later."""


@dataclass(frozen=True)
class Made:
    """A chunk and how long its parts took."""

    frames: npt.NDArray[np.uint8]
    c2w: Tensor
    begins: float
    denoise: float
    decode: float


class Session:
    """See docs/serving.md for what is said. All of it runs on the event loop but for steps and encoding."""

    def __init__(self, house: House, channel: Channel) -> None:
        self.house, self.channel = house, channel
        self.name = secrets.token_urlsafe(18)
        self.tree: PathTree | None = None
        self.beginning: Beginning | None = None
        self._init: Init | None = None
        self._controls = Controls(0.0)
        self._steps: list[Event] = []
        self._paused = False
        self._idle = 0  # chunks that are still made although nothing is held
        self._changed = asyncio.Event()
        self._job: Job | None = None
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
            self._init = self.beginning = None
        await self.channel.close(left, said)
        return left.reason

    async def _listen(self) -> None:
        """Take messages, and complain of those that cannot be obeyed."""
        wrong = 0
        while True:
            try:
                message = await self.channel.receive(began=self._init is not None)
                await self._obey(message)
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
        elif self.tree is None and not isinstance(message, Event | Pause):
            raise ProtocolError("out_of_order", "the world has not begun; wait for ready.")
        elif isinstance(message, Event):
            self._take(message)
        elif isinstance(message, Pause):
            self._paused = message.paused
            await self.channel.say("paused", paused=self._paused)
        elif isinstance(message, Rewind | Cancel):
            assert self.tree is not None
            node = self.tree.current if isinstance(message, Cancel) else self.tree.go(message.node)
            self._stop_step()
            await self._say_where("cancelled" if isinstance(message, Cancel) else "rewound", node)
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
        elif len(self._steps) >= STEPS_AHEAD:
            raise ProtocolError("too_many", f"{STEPS_AHEAD} events wait already; wait for their chunks.")
        else:
            self._steps.append(event)

    def _stop_step(self) -> None:
        """What is being made is not wanted any more, nor what was asked for next."""
        self._turns += 1
        self._idle = 0
        self._shown_until = self._due = 0.0
        self._controls.release()
        self._steps.clear()
        if self._job is not None:
            self._job.cancel()

    async def _walk(self) -> None:
        """Make chunks for as long as they are asked for."""
        while self._init is None:
            self._changed.clear()
            await self._changed.wait()
        await self.house.line.enter(lambda place: self.channel.say("queued", position=place))
        try:
            await self._begin(self._init)
            while True:
                await self._make(await self._next_keys(self._init))
        finally:
            self.house.line.leave()

    async def _begin(self, init: Init) -> None:
        house = self.house
        try:
            self.beginning = await asyncio.to_thread(_beginning, house, init)
            world = await house.work(lambda: self._born(), self._started)
        except InputError as error:
            raise ProtocolError("wrong_value", f"init: {error}", fatal=True) from error
        except GenerationError as error:
            raise ProtocolError("generation_failed", str(error), fatal=True) from error
        self._init = _without_picture(init)
        self.tree = PathTree(world, house.limits)
        house.sessions[self.name] = self
        settings = house.pipe.settings
        await self.channel.say(
            "ready", session=self.name, width=settings.width, height=settings.height, fps=settings.fps,
            frames_a_chunk=house.frames_a_step, seed=init.seed, max_chunks=init.max_chunks, pace=init.pace,
            encoding=init.encoding, kept=self.tree.kept(),
        )  # fmt: skip
        picture = await asyncio.to_thread(self._first_picture)
        await self._show(self.tree.current, picture, world.c2w[None], 0)

    def _born(self) -> World:
        assert self.beginning is not None
        return self.beginning.begin(self.house.pipe, self.house.plan)

    def _first_picture(self) -> npt.NDArray[np.uint8]:
        assert self.beginning is not None
        return np.asarray(Image.open(io.BytesIO(self.beginning.picture)))[None]

    def _started(self, job: Job) -> None:
        self._job = job

    async def _next_keys(self, init: Init) -> FrameKeys:
        """Wait until a chunk is due; returns the keys of its frames, as they are then."""
        told = False
        while True:
            wanted = bool(self._steps) if init.pace == "step" else self._controls.active or self._idle > 0
            wait: float | None = None
            if wanted and not self._paused:
                wait = self._due - time.monotonic()
                if wait <= 0:
                    break
            elif not told:
                told = True
                await self.channel.say("waiting", paused=self._paused)
                continue
            self._changed.clear()
            with anyio.move_on_after(wait):
                await self._changed.wait()
        if init.pace == "step":
            event = self._steps.pop(0)
            self._controls.release()
            self._controls.take(event)
        elif not self._controls.active:
            self._idle -= 1
        return self._controls.next(self.house.frames_a_step)

    async def _make(self, keys: FrameKeys) -> None:
        assert self.tree is not None
        assert self._init is not None
        if len(self.tree) >= self._init.max_chunks:
            raise Left("max_chunks")
        before, turns, seq = self.tree.current, self._turns, self._controls.seq
        assert before.world is not None
        world, action = before.world.fork(), action_string(keys)
        await self.channel.say("chunk_started", parent=before.number, chunk=world.chunk, keys=action, seq=seq)
        asked = time.perf_counter()
        try:
            made = await self.house.work(lambda: _step(world, keys), self._started)
        except asyncio.CancelledError:  # the guest has left
            self.house.metrics.cancelled.inc()
            raise
        except CancelledStep:
            self.house.metrics.cancelled.inc()
            return
        except GenerationError as error:
            raise ProtocolError("generation_failed", str(error), fatal=True) from error
        if turns != self._turns:  # it was done before it could be stopped
            self.house.metrics.cancelled.inc()
            return
        seconds = {"queue": made.begins - asked, "denoise": made.denoise, "decode": made.decode}
        await self._deliver(world, Step(action, chunk_hash(made.frames)), made, seconds, seq)

    async def _deliver(self, world: World, step: Step, made: Made, seconds: dict[str, float], seq: int) -> None:
        assert self.tree is not None
        frames = made.frames
        parent = self.tree.current.number
        node = self.tree.add(world, step)
        if self._init is not None and self._init.pace == "live":
            self._shown_until = max(self._shown_until, time.monotonic()) + len(frames) / self.house.pipe.settings.fps
            self._due = self._shown_until - sum(seconds.values()) - MARGIN_SECONDS
        metrics = self.house.metrics
        metrics.chunks.inc()
        metrics.frames.inc(len(frames))
        for stage, value in seconds.items():
            metrics.seconds.labels(stage).observe(value)
        first = world.num_frames - len(frames)
        await self._show(node, frames, made.c2w, first, parent=parent, seq=seq, keys=step.keys)
        if self._encoding is not None:
            await self._encoding
        self._encoding = asyncio.create_task(self._encode(node, frames, first, world.chunk - 1))
        await self.channel.say(
            "chunk_stats", node=node.number, parent=parent, chunk=world.chunk - 1, keys=step.keys, sha256=step.sha256,
            seconds={name: round(value, 4) for name, value in seconds.items()}, seq=seq, num_frames=world.num_frames,
            kept=self.tree.kept(), chunks_left=self._chunks_left(),
        )  # fmt: skip

    def _chunks_left(self) -> int:
        assert self.tree is not None
        assert self._init is not None
        return self._init.max_chunks - len(self.tree)

    async def _show(
        self, node: Node, frames: npt.NDArray[np.uint8], c2w: Tensor, first: int, **more: Any
    ) -> None:
        assert self._init is not None
        encoding = self._init.encoding
        parts = await asyncio.to_thread(encode_pictures, frames, encoding)
        head = {
            "type": "frame_batch", "node": node.number, "chunk": node.chunk - 1, "first_frame": first,
            "num_frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "encoding": encoding,
            "poses": [[round(value, 4) for value in pose] for pose in top_view(c2w)],
        }  # fmt: skip
        await self.channel.show(head | more, parts)

    async def _encode(self, node: Node, frames: npt.NDArray[np.uint8], first: int, chunk: int) -> None:
        """What a download needs, while the next chunk is made."""
        node.fragment = await asyncio.to_thread(encode_fragment, frames, self.house.pipe.settings.fps, first, chunk)

    async def _say_where(self, kind: str, node: Node) -> None:
        assert self.tree is not None
        assert node.world is not None
        pose = [round(value, 4) for value in top_view(node.world.c2w[None])[0]]
        path = [0, *(one.number for one in self.tree.path(node.number))]
        await self.channel.say(kind, node=node.number, pose=pose, path=path, kept=self.tree.kept())

    async def fragments(self, nodes: list[Node]) -> list[Fragment]:
        """The parts of a video of these nodes."""
        if self._encoding is not None:
            await asyncio.wait([self._encoding])
        return [node.fragment for node in nodes if node.fragment is not None]


def _step(world: World, keys: FrameKeys) -> Made:
    """On the model's thread: one step of the engine, and where it led."""
    begins = time.perf_counter()
    denoised = begins

    def note(stage: str, done: int, total: int) -> None:
        nonlocal denoised
        if stage == "decode" and done == 0:
            denoised = time.perf_counter()

    motion = world.state.motion.copy()
    still = [motion.c2w] if world.chunk == 0 else []
    c2w = torch.stack([*still, *(motion.step(held) for held in keys)])
    frames = world.step(keys, progress=note)
    return Made(frames, c2w, begins, denoised - begins, time.perf_counter() - denoised)


def top_view(c2w: Tensor) -> list[list[float]]:
    """Of poses (n,4,4): to the right, ahead, and the heading in radians (0 ahead, growing to the right)."""
    z = c2w[:, :3, 2]
    rows = zip(c2w[:, 0, 3], c2w[:, 2, 3], z[:, 0].atan2(z[:, 2]), strict=True)
    return [[float(x), float(ahead), float(turn)] for x, ahead, turn in rows]


def _beginning(house: House, init: Init) -> Beginning:
    """Decode the picture and fit it to the model; not on the event loop."""
    fov, intrinsics = init.fov, init.intrinsics
    if init.first_frame is None:
        example = load_example()
        image: Any = example.image
        prompt = example.prompt if init.prompt is None else init.prompt
        if fov is None and intrinsics is None:
            fov, intrinsics = example.fov, example.intrinsics
    else:
        image, prompt = decode_picture(init.first_frame, house.limits), init.prompt or ""
    return Beginning.of(
        house.pipe, image, prompt, seed=init.seed, fov=fov, intrinsics=intrinsics,
        translation_speed=init.translation_speed, rotation_speed_deg=init.rotation_speed_deg,
    )  # fmt: skip


def _without_picture(init: Init) -> Init:
    return replace(init, first_frame=None)


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
