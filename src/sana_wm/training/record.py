"""Recording of Freedoom clips, in parallel, before training starts."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

from tqdm import tqdm

from sana_wm.data.recorded import RecordedClip, read_clips, write_clip

STREAMS = 16
"""Independent walks that the clips of one length are cut from; fixed, so that clips do not depend on the workers."""


def record_doom(
    directory: Path,
    *,
    split: str,
    num_clips: int,
    num_frames: int,
    height: int,
    width: int,
    seed: int,
    workers: int,
    stop: Callable[[], bool] = lambda: False,
) -> list[RecordedClip]:
    """Record `num_clips` clips of `num_frames` frames into `directory`, unless they are there; then open them.

    Asked several times a second, `stop` ends the recording early: what is returned is what there is. So does an
    exception, Ctrl-C among them. Either way the workers finish the clip they are at, and a later call goes on.
    """
    shares = [num_clips // STREAMS + (i < num_clips % STREAMS) for i in range(STREAMS)]
    jobs = [
        (directory, stream, share, split, num_frames, height, width, seed * STREAMS + stream)
        for stream, share in enumerate(shares)
        if share and not (directory / _name(stream, share - 1) / "clip.json").is_file()
    ]
    if jobs:
        context = multiprocessing.get_context("spawn")
        stopped = context.Event()
        total = sum(job[2] for job in jobs)
        with (
            ProcessPoolExecutor(max(1, workers), context, _start_worker, (stopped,)) as pool,
            tqdm(total=total, desc=f"record {num_frames}-frame clips", unit="clip", mininterval=5.0) as bar,
        ):
            try:
                with _interrupts_held():
                    running = {pool.submit(_record_stream, *job) for job in jobs}
                while running and not stop():
                    done, running = wait(running, timeout=0.3, return_when=FIRST_COMPLETED)
                    bar.update(sum(job.result() for job in done))
            finally:
                stopped.set()
                pool.shutdown(cancel_futures=True)
    return read_clips(directory, num_clips)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that is started in here never notices Ctrl-C.

    A terminal sends it to all processes; only the one that waits for the workers answers it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_stopped: Event
"""In a worker: whether to record no further clip."""


def _start_worker(stopped: Event) -> None:
    global _stopped
    _stopped = stopped


def _name(stream: int, index: int) -> str:
    return f"{index:05d}_{stream:02d}"


def _record_stream(
    directory: Path, stream: int, count: int, split: str, num_frames: int, height: int, width: int, seed: int
) -> int:
    from sana_wm.worlds.doom import stream_clips

    clips = stream_clips(split, seed, num_frames, height, width)
    for index in range(count):
        if _stopped.is_set():
            break
        write_clip(directory / _name(stream, index), next(clips))
    return count
