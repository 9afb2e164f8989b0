"""Recording of Freedoom clips, in parallel, before training starts."""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from sana_wm.data.recorded import RecordedClip, read_clips, write_clip

logger = logging.getLogger(__name__)

STREAMS = 16
"""Independent walks that the clips of one length are cut from; fixed, so that clips do not depend on the workers."""


def record_doom(
    directory: Path, *, split: str, num_clips: int, num_frames: int, height: int, width: int, seed: int, workers: int
) -> list[RecordedClip]:
    """Record `num_clips` clips of `num_frames` frames into `directory`, unless they are there; then open them."""
    shares = [num_clips // STREAMS + (i < num_clips % STREAMS) for i in range(STREAMS)]
    jobs = [
        (directory, stream, share, split, num_frames, height, width, seed * STREAMS + stream)
        for stream, share in enumerate(shares)
        if share and not (directory / _name(stream, share - 1) / "clip.json").is_file()
    ]
    if jobs:
        context = multiprocessing.get_context("spawn")
        total = sum(job[2] for job in jobs)
        with (
            ProcessPoolExecutor(max(1, workers), mp_context=context) as pool,
            tqdm(total=total, desc=f"record {num_frames}-frame clips", unit="clip", mininterval=5.0) as bar,
        ):
            for done in as_completed([pool.submit(_record_stream, *job) for job in jobs]):
                bar.update(done.result())
    return read_clips(directory, num_clips)


def _name(stream: int, index: int) -> str:
    return f"{index:05d}_{stream:02d}"


def _record_stream(
    directory: Path, stream: int, count: int, split: str, num_frames: int, height: int, width: int, seed: int
) -> int:
    from sana_wm.worlds.doom import stream_clips

    clips = stream_clips(split, seed, num_frames, height, width)
    for index, clip in zip(range(count), clips, strict=False):
        write_clip(directory / _name(stream, index), clip)
    return count
