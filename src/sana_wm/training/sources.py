"""Batches of training clips, numbered: batch `index` always holds the same clips, whatever ran before."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from sana_wm.data.recorded import RecordedClip
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.worlds.procedural import Renderer, SceneAndPath, draw, render_drawn
from sana_wm.worlds.splits import PROCEDURAL_SEEDS, split_seed

P = ParamSpec("P")
T = TypeVar("T")

LOOKAHEAD = 8
"""Batches whose CPU part is prepared while earlier ones train."""

DRAWN_TOGETHER = 4
"""Clips a worker process draws in one go."""

STREAMS = ("autoencoder", "world", "long", "statistics")
"""Who asks for clips. Every stream walks its own seeds, so none sees another's scenes."""


@dataclass(frozen=True)
class ClipBatch:
    """frames (B, F, 3, H, W) uint8, c2w (B, F, 4, 4) and intrinsics (B, F, 4); a caption each."""

    frames: Tensor
    c2w: Tensor
    intrinsics: Tensor
    captions: list[str]

    def to(self, device: torch.device) -> ClipBatch:
        """A copy on `device`, under way: frames in pinned memory do not make the GPU finish its work first."""
        frames, c2w, intrinsics = (x.to(device, non_blocking=True) for x in (self.frames, self.c2w, self.intrinsics))
        return ClipBatch(frames, c2w, intrinsics, self.captions)


@dataclass(frozen=True)
class _Prepared:
    """The CPU part of a batch, under way: drawn scenes in groups, and windows of recorded clips."""

    drawn: list[Future[list[SceneAndPath]]]
    recorded: Future[ClipBatch] | None


class ClipSource:
    """Procedural clips rendered on the device, mixed with recorded ones.

    Args:
        recorded: recorded clips by their length in frames.
        recorded_share: fraction of every batch taken from them, where there are any that are long enough.
        workers: processes that draw scenes and paths; 0 draws in this process, when a batch is asked for.
        peers: the processes of the run, between which the batches of a stream are dealt out in turn.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        height: int,
        width: int,
        device: torch.device,
        recorded: dict[int, list[RecordedClip]],
        recorded_share: float,
        seed: int,
        workers: int = 0,
        split: str = "train",
        peers: Peers = ALONE,
    ) -> None:
        self.renderer = renderer
        self.size = (height, width)
        self.device = device
        self.recorded = recorded
        self.recorded_share = recorded_share
        self.seed = seed
        self.split = split
        self.workers = workers
        self.peers = peers
        self._drawers: Executor = _SameThread()
        self._readers: Executor = _SameThread()
        if workers:
            context = multiprocessing.get_context("spawn")
            self._drawers = ProcessPoolExecutor(workers, context, initializer=_start_worker)
            self._readers = ThreadPoolExecutor(2)

    def close(self) -> None:
        self._drawers.shutdown(cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)

    def batches(self, stream: str, start: int, size: int, num_frames: int) -> Iterator[ClipBatch]:
        """Batches start, start + 1, ... of `size` clips of `num_frames` frames from one of `STREAMS`, on the device.

        Batch n of all peers together is batch n of a run of one process with as many clips as they all have.
        """
        pending: deque[_Prepared] = deque()
        index = start
        while True:
            while len(pending) < (LOOKAHEAD if self.workers else 1):
                number = index * self.peers.size + self.peers.rank
                pending.append(self._prepare(stream, number, size, num_frames))
                index += 1
            yield self._finish(pending.popleft())

    def _prepare(self, stream: str, index: int, size: int, num_frames: int) -> _Prepared:
        pool = self._pool(num_frames)
        recorded = round(size * self.recorded_share) if pool else 0
        procedural = size - recorded
        seeds = self._scene_seeds(stream, index * procedural, procedural)
        groups = [seeds[i : i + DRAWN_TOGETHER] for i in range(0, procedural, DRAWN_TOGETHER)]
        return _Prepared(
            [self._drawers.submit(_draw_all, group, num_frames) for group in groups],
            self._readers.submit(self._read, stream, index, recorded, pool, num_frames) if recorded else None,
        )

    def _scene_seeds(self, stream: str, first: int, count: int) -> list[int]:
        """Seeds of clips first, first + 1, ... of a stream, which walks round its quarter of the split.

        The run's seed decides where it begins: a run with another seed, such as one that goes on from this one's
        model, sees other scenes.
        """
        quarter = len(PROCEDURAL_SEEDS[self.split]) // len(STREAMS)
        begin = STREAMS.index(stream) * quarter
        place = first + int(np.random.default_rng(self.seed).integers(quarter))
        return [split_seed(self.split, begin + (place + i) % quarter) for i in range(count)]

    def _pool(self, num_frames: int) -> list[RecordedClip]:
        """Recorded clips of the shortest length that holds a window of `num_frames`."""
        lengths = [length for length, clips in self.recorded.items() if length >= num_frames and clips]
        return self.recorded[min(lengths)] if lengths else []

    def _read(self, stream: str, index: int, count: int, pool: list[RecordedClip], num_frames: int) -> ClipBatch:
        """Windows of recorded clips, drawn by (seed, stream, index)."""
        random = np.random.default_rng([self.seed, STREAMS.index(stream), index])
        clips = [pool[i] for i in random.integers(len(pool), size=count)]
        windows = [c.window(int(random.integers(len(c.frames) - num_frames + 1)), num_frames) for c in clips]
        frames, c2w, intrinsics = (torch.stack(parts) for parts in zip(*windows, strict=True))
        if self.device.type == "cuda":
            frames = frames.pin_memory()
        return ClipBatch(frames, c2w, intrinsics, [clip.caption for clip in clips])

    def _finish(self, prepared: _Prepared) -> ClipBatch:
        parts = []
        drawn = [clip for group in prepared.drawn for clip in group.result()]
        if drawn:
            frames, c2w, intrinsics, _ = render_drawn(drawn, *self.size, self.device, self.renderer)
            parts.append(ClipBatch(frames, c2w, intrinsics, [clip.caption for clip in drawn]))
        if prepared.recorded is not None:
            parts.append(prepared.recorded.result().to(self.device))
        return ClipBatch(
            torch.cat([p.frames for p in parts]),
            torch.cat([p.c2w for p in parts]),
            torch.cat([p.intrinsics for p in parts]),
            [caption for p in parts for caption in p.captions],
        )


def _start_worker() -> None:
    """Ctrl-C in the terminal reaches every process; only the trainer answers it, and still needs data for its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _draw_all(seeds: list[int], num_frames: int) -> list[SceneAndPath]:
    return [draw(seed, num_frames) for seed in seeds]


class _SameThread(Executor):
    """Runs what is submitted at once; the executor of a source without workers."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future
