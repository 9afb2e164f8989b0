"""A whole camera path as a growing video: while one chunk is denoised, the one before it is decoded, and so on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from threading import Event
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.engine.chunk_stages import ChunkStages, Move
from sana_wm.engine.conditions import Conditions
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.named_stage import named_stage
from sana_wm.engine.overlap import Stopped, overlapped
from sana_wm.engine.world import World
from sana_wm.engine.world_state import WorldState
from sana_wm.errors import InputError
from sana_wm.geometry.poses import snap_num_frames

AHEAD = 1
"""Chunks that may wait between two stages."""


class Sink(Protocol):
    """Where chunks go, such as a :class:`~sana_wm.engine.recording.Recording`."""

    def write(self, frames: npt.NDArray[np.uint8], state: WorldState) -> None:
        """Take the frames (n,H,W,3) of a chunk, and the world after it."""


def check_length(requested: int, available: int, frames_a_chunk: int) -> None:
    """Refuse so many frames asked for, and so many poses of a path, that there is not a single chunk.

    Raises:
        InputError: it is so.
    """
    if snap_num_frames(requested, available, frames_a_chunk) <= frames_a_chunk:
        raise InputError(
            f"a stream has at least {frames_a_chunk + 1} frames; {requested} are asked for and the camera path has "
            f"{available} poses."
        )


def stream_video(
    world: World,
    conditions: Conditions,
    recording: Sink,
    on_chunk: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Make what is left of the path of `conditions`, whole chunks, and write it; returns how long each stage was busy.

    The three stages (denoise, decode, write) run at the same time, on a GPU each in a stream of its own, at most
    :data:`AHEAD` chunks apart. The frames are those that :meth:`World.step` gives for the same path. `on_chunk` gets
    (chunks written, chunks in all); whatever it raises ends the streaming. However it ends, the video plays.

    Raises:
        GenerationError: a stage failed; the message names it and the chunk. All chunks before it are in the video.
    """
    total = (conditions.num_frames - 1) // world.frames_a_step
    lanes = Lanes(world.pipe.device)

    def write(frames: npt.NDArray[np.uint8], state: WorldState) -> None:
        chunk = state.chunk - 1
        try:
            with named_stage("write", chunk):
                recording.write(frames, state)
        except InputError as error:
            raise GenerationError(f"stage write, chunk {chunk}: {error}") from error

    on_chunk(world.chunk, total)
    made = side_by_side(world.stages, world.state, total, lambda state: _move(world, conditions, state), write, lanes)
    with closing(made) as written:
        for state in written:
            world.state = state
            on_chunk(state.chunk, total)
    return lanes.seconds


def side_by_side(
    stages: ChunkStages,
    state: WorldState,
    total: int,
    move: Callable[[WorldState], Move],
    write: Callable[[npt.NDArray[np.uint8], WorldState], None],
    lanes: Lanes,
) -> Generator[WorldState, None, None]:
    """The states after every further chunk of a world until it has `total`, each once `write` has taken its frames.

    Every stage is in a lane and a thread of its own, at most :data:`AHEAD` chunks before the next. Closing the
    iterator stops all of them.
    """
    tails = state.tails
    stop = Event()

    def on_step(step: int, steps: int, latents: Tensor) -> None:
        if stop.is_set():  # a chunk of a large model takes seconds
            raise Stopped

    def denoised() -> Iterator[tuple[Tensor, WorldState]]:
        nonlocal state  # what it began with need not live any longer
        on_lane = lanes.lane("denoise")
        while state.chunk < total:
            with on_lane():
                latents, state = stages.denoise(state, move(state), on_step)
            yield latents, state

    decode_lane = lanes.lane("decode")

    def decode(made: tuple[Tensor, WorldState]) -> tuple[npt.NDArray[np.uint8], WorldState]:
        nonlocal tails
        with decode_lane():
            frames, after = stages.decode(*made, tails)
        tails = after.tails
        return frames, after

    write_lane = lanes.lane("write")

    def written(made: tuple[npt.NDArray[np.uint8], WorldState]) -> WorldState:
        with write_lane():
            write(*made)
        return made[1]

    yield from overlapped(denoised(), decode, written, depth=AHEAD, stop=stop)


def _move(world: World, conditions: Conditions, state: WorldState) -> Move:
    """The part of the path that the next chunk goes."""
    first = world.num_frames_after(state.chunk)
    rows = slice(first, first + world.frames_a_step)
    c2w = conditions.c2w[rows]
    return Move(c2w, conditions.intrinsics[rows], state.motion.placed(c2w[-1]))


class Lanes:
    """How long stages are at work and, on a GPU, a stream for each, so that their kernels need not wait in one line."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what was begun before is done: no stage waits for it later

    def lane(self, name: str) -> Callable[[], AbstractContextManager[Any]]:
        """What to do the work of one stage in. What it has made is finished when the block ends, so whoever gets it, on
        whatever stream, need not wait; and nothing it has read was freed too early."""
        stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

        @contextmanager
        def work() -> Iterator[None]:
            begin = time.perf_counter()
            with nullcontext() if stream is None else torch.cuda.stream(stream):
                yield
                if stream is not None:
                    stream.synchronize()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

        return work
