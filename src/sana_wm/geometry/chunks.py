"""Which latent frames form a chunk, which chunks a chunk may see, and when a staircase starts each of them.

Everything here is exact integer arithmetic on latent frame indices (spec 20 sections 1.2, 1.3 and 3.5; spec 21
section 6; spec 30 section 3.10). A chunking is a list of start frames with `starts[0] == 0`; *bounds* are the starts
followed by the number of frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from sana_wm.errors import InputError

Strategy = Literal["uniform", "first_frame", "first_chunk_plus_one"]

_STRATEGY_NAMES: dict[str, Strategy] = {
    "uniform": "uniform",
    "default": "uniform",
    "first_frame": "first_frame",
    "first_frame_alone": "first_frame",
    "first_frame_only": "first_frame",
    "first_chunk_plus_one": "first_chunk_plus_one",
    "first_plus_one": "first_chunk_plus_one",
}


def chunk_starts(num_frames: int, chunk_size: int, strategy: str | None = "uniform") -> list[int]:
    """Start frames of the chunks of a clip of `num_frames` latent frames.

    Strategies: `uniform` (0, c, 2c, ...), `first_frame` (0, 1, 1+c, ...), `first_chunk_plus_one` (0, c+1, 2c+1, ...),
    and their aliases, in any case; None means `uniform`. A last chunk shorter than `chunk_size` joins the one before
    it, except that `first_frame` keeps its first frame alone.
    """
    _positive("num_frames", num_frames)
    _positive("chunk_size", chunk_size)
    name = strategy_name(strategy)
    second = {"uniform": chunk_size, "first_frame": 1, "first_chunk_plus_one": chunk_size + 1}[name]
    starts = [0, *range(second, num_frames, chunk_size)]
    never_merged = 2 if name == "first_frame" else 1
    if len(starts) > never_merged and num_frames - starts[-1] < chunk_size:
        starts.pop()
    return starts


def strategy_name(strategy: str | None) -> Strategy:
    """The name of a strategy that has several; None means `uniform`."""
    name = _STRATEGY_NAMES.get((strategy or "uniform").lower())
    if name is None:
        raise InputError(f"chunk strategy {strategy!r} is unknown; use one of {', '.join(sorted(_STRATEGY_NAMES))}.")
    return name


def chunk_bounds(starts: Sequence[int], num_frames: int) -> list[int]:
    """Explicit chunk starts as bounds [0, ..., num_frames]: 0 is added, starts beyond the clip are dropped."""
    _positive("num_frames", num_frames)
    if any(start < 0 for start in starts) or any(b <= a for a, b in pairwise(starts)):
        raise InputError(f"chunk starts {list(starts)} must be frame indices >= 0 in strictly rising order.")
    inside = [int(start) for start in starts if start < num_frames]
    return [*([] if inside[:1] == [0] else [0]), *inside, num_frames]


def ar_bounds(num_frames: int, block: int) -> list[int]:
    """Bounds of the autoregressive sampler's segments: each has `block` frames, the first also the remainder.

    Equal to `first_chunk_plus_one` exactly when `num_frames % block == 1`. A clip shorter than one block is refused.
    """
    _positive("num_frames", num_frames)
    _positive("block", block)
    if num_frames < block:
        raise InputError(f"{num_frames} latent frames cannot fill a block of {block}; use at least {block}.")
    return [0, *range(block + num_frames % block, num_frames + 1, block)]


def visible_chunks(chunk: int, window: int, sink: bool) -> list[int]:
    """Earlier chunks whose keys and values softmax blocks of `chunk` may read, rising; the chunk itself is not listed.

    `window` counts chunks (<= 0: all of them). With `sink`, chunk 0 always stays and takes one place of the window.
    """
    if chunk < 0:
        raise InputError(f"chunk index {chunk} must be 0 or more.")
    if window <= 0:
        return list(range(chunk))
    if sink and chunk - window + 1 > 0:
        return [0, *range(max(chunk - window + 1, 1), chunk)]
    return list(range(max(chunk - window, 0), chunk))


def staircase_start_steps(num_chunks: int, num_steps: int, interval: float | None = None) -> list[int]:
    """Global step at which each chunk of the staircase sampler starts: floor(i * interval * num_steps).

    `interval` is the fraction of a chunk's steps after which the next chunk starts (1: one after the other; None:
    1/num_chunks).
    """
    _positive("num_chunks", num_chunks)
    _positive("num_steps", num_steps)
    k = 1.0 / num_chunks if interval is None else interval
    if not (math.isfinite(k) and k > 0):
        raise InputError(f"chunk interval {interval} must be a finite number above 0.")
    return [math.floor(i * k * num_steps) for i in range(num_chunks)]


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{name} is {value}; it must be at least 1.")
