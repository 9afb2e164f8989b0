"""Clips that no model was trained on: procedural test seeds and Freedoom test levels, and their mirrored paths."""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.poses import compose, relative_to_first
from sana_wm.worlds.procedural import Renderer, SceneAndPath, draw, render_drawn
from sana_wm.worlds.splits import split_seed

PROCEDURAL, FREEDOOM = "procedural", "freedoom"
WORLDS = (PROCEDURAL, FREEDOOM)
FREEDOOM_GROUP, CLIPS_PER_LEVEL = 8, 2
"""Freedoom clips of one walk, with a seed of its own, and of one level before another is drawn: few, so that a
small set sees all test levels."""
RENDERED_AT_ONCE = 8


@dataclass(frozen=True)
class HeldOut:
    """Clips of one length and size.

    Attributes:
        frames: (B,F,3,H,W) uint8; c2w: (B,F,4,4) float32 in the world of each clip; intrinsics: (B,F,4) in pixels.
        captions, names: one a clip. worlds: "procedural" or "freedoom" for each clip.
        drawn: the procedural scenes, which come first; what other cameras need to see them.
    """

    frames: Tensor
    c2w: Tensor
    intrinsics: Tensor
    captions: list[str]
    names: list[str]
    worlds: list[str]
    drawn: list[SceneAndPath]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.frames.shape[-2], self.frames.shape[-1]

    def noise_seed(self, index: int, seed: int) -> int:
        """Seed of the noise of clip `index`: it follows from the clip's name, whatever other clips there are."""
        return clip_seed(self.names[index], seed)


def clip_seed(name: str, seed: int) -> int:
    """Seed of the noise of the clip with this name."""
    return zlib.crc32(f"{seed} {name}".encode())


def held_out(
    split: str,
    counts: dict[str, int],
    num_frames: int,
    size: tuple[int, int],
    *,
    device: torch.device,
    renderer: Renderer,
    seed: int = 0,
    workers: int = 0,
    report: Callable[[int], None] | None = None,
) -> HeldOut:
    """`counts[world]` clips of each world, procedural ones first, on `device`.

    Args:
        split: "test" or "validation"; procedural clips are indices 0, 1, ... of the split.
        size: height and width.
        seed: of the walks through Freedoom.
        workers: processes that walk through Freedoom; 0 walks in this one. The clips are the same.
        report: called with the clips done so far.

    Raises:
        InputError: a world or the split is unknown, there are no clips, or vizdoom is missing.
    """
    unknown = sorted(set(counts) - set(WORLDS))
    if unknown or sum(counts.values()) < 1:
        raise InputError(f"counts is {counts}; it must ask for at least one clip of {' or '.join(WORLDS)}.")
    if split not in ("test", "validation"):
        raise InputError(f"split is {split!r}; held-out clips are of 'test' or 'validation'.")
    parts: list[HeldOut] = []

    def add(clips: Sequence[HeldOut]) -> None:
        parts.extend(clips)
        if report is not None:
            report(len(parts))

    with _walks(split, counts.get(FREEDOOM, 0), num_frames, size, seed, workers) as walks:
        for index in range(counts.get(PROCEDURAL, 0)):
            drawn = draw(split_seed(split, index), num_frames)
            add([procedural_clip(drawn, f"{PROCEDURAL}/{split}/{index:06d}", size, device, renderer)])
        for walk in walks:
            add([_on_device(clip, device) for clip in walk])
    return _join(parts)


@dataclass(frozen=True)
class _Recorded:
    """A Freedoom clip as arrays, which travel between processes without shared memory."""

    frames: np.ndarray
    c2w: np.ndarray
    intrinsics: np.ndarray
    caption: str
    name: str


@contextmanager
def _walks(
    split: str, count: int, num_frames: int, size: tuple[int, int], seed: int, workers: int
) -> Iterator[Iterator[list[_Recorded]]]:
    """`count` Freedoom clips in groups; with `workers`, they are made while this process does something else."""
    starts = range(0, count, FREEDOOM_GROUP)
    jobs = [(split, start, min(FREEDOOM_GROUP, count - start), num_frames, size, seed) for start in starts]
    if not workers or not jobs:
        yield (_walk(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(_walk, *job) for job in jobs]
        yield (future.result() for future in futures)


def _walk(split: str, start: int, count: int, num_frames: int, size: tuple[int, int], seed: int) -> list[_Recorded]:
    from sana_wm.worlds.doom import DoomWorld

    rng = np.random.default_rng([seed, start])
    engine_seed = int(rng.integers(2**31 - 1))
    found = []
    with DoomWorld(*size, split=split, seed=engine_seed, clips_per_level=CLIPS_PER_LEVEL) as world:
        for index in range(start, start + count):
            clip = world.clip(num_frames, rng)
            arrays = (clip.frames.numpy(), clip.c2w.numpy(), clip.intrinsics.numpy())
            level = clip.name.split("/")[-2]
            found.append(_Recorded(*arrays, clip.caption, f"{FREEDOOM}/{split}/{index:06d}/{level}"))
    return found


def _on_device(clip: _Recorded, device: torch.device) -> HeldOut:
    arrays = (clip.frames, clip.c2w, clip.intrinsics)
    frames, c2w, intrinsics = (torch.from_numpy(array).to(device)[None] for array in arrays)
    return HeldOut(frames, c2w, intrinsics, [clip.caption], [clip.name], [FREEDOOM], [])


def procedural_clip(
    drawn: SceneAndPath, name: str, size: tuple[int, int], device: torch.device, renderer: Renderer
) -> HeldOut:
    """One procedural clip, rendered."""
    frames, c2w, intrinsics, _ = render_drawn([drawn], *size, device, renderer)
    return HeldOut(frames, c2w, intrinsics, [drawn.caption], [name], [PROCEDURAL], [drawn])


def _join(parts: Sequence[HeldOut]) -> HeldOut:
    return HeldOut(
        torch.cat([part.frames for part in parts]),
        torch.cat([part.c2w for part in parts]),
        torch.cat([part.intrinsics for part in parts]),
        [caption for part in parts for caption in part.captions],
        [name for part in parts for name in part.names],
        [world for part in parts for world in part.worlds],
        [drawn for part in parts for drawn in part.drawn],
    )


def mirrored_path(c2w: Tensor) -> Tensor:
    """The poses (...,F,4,4) with left and right exchanged, as seen from the first frame.

    With (R, t) relative to the first frame and S = diag(-1, 1, 1), every pose becomes (S R S, S t): yaw, roll and
    strafing change sign, pitch, climbing and walking ahead stay. The first pose stays in place.
    """
    relative = relative_to_first(c2w.double())
    flip = torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64, device=c2w.device)
    return compose(c2w[..., :1, :, :].double(), flip[:, None] * relative * flip).to(c2w.dtype)


def mirrored_frames(clips: HeldOut, renderer: Renderer) -> Tensor:
    """What the cameras of the mirrored paths see of the procedural clips: (P,F,3,H,W) uint8, P procedural clips."""
    device = clips.frames.device
    flown = [replace(d, c2w=mirrored_path(torch.from_numpy(d.c2w)).numpy()) for d in clips.drawn]
    groups = [flown[i : i + RENDERED_AT_ONCE] for i in range(0, len(flown), RENDERED_AT_ONCE)]
    return torch.cat([render_drawn(group, *clips.size, device, renderer)[0] for group in groups])
