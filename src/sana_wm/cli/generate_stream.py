"""`sana-wm generate --stream`: the video chunk by chunk, into a file that plays while it grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm.engine.conditions import Conditions
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.preprocess import Request
from sana_wm.engine.progress import StageClock
from sana_wm.engine.recording import Recording, StreamFiles
from sana_wm.engine.streaming import check_length, stream_video
from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.models.config import StreamSettings


@dataclass(frozen=True)
class Target:
    """Where the video goes; `save_every` chunks (None: every one, 0: never) the world is saved beside it."""

    directory: Path
    name: str
    fps: int
    resume: bool
    save_every: int | None


def check_stream_flags(
    stream: bool, *, resume: bool, save_every: int | None, overlay: bool, step: int | None, flow_shift: float | None
) -> None:
    """Refuse flags that do not go together.

    Raises:
        InputError: they do not.
    """
    for flag, given in (("--resume", resume), ("--save_every", save_every is not None)):
        if given and not stream:
            raise InputError(f"{flag} is for streamed videos; give --stream as well.")
    if save_every is not None and save_every < 0:
        raise InputError(f"save_every is {save_every}; it must be a number of chunks, or 0 for never.")
    if stream and overlay:
        raise InputError("--overlay needs the whole video, which --stream never holds; leave out one of them.")
    if stream and flow_shift is not None and step is None:
        raise InputError("--flow_shift does nothing to the fixed steps of a stream; give their number with --step too.")


def stream_names(name: str) -> list[str]:
    """Names of the files of a streamed video."""
    return [path.name for path in StreamFiles.of(Path(), name).all()]


def stream_to_disk(
    pipe: SanaWMPipeline,
    plan: StreamSettings,
    request: Request,
    num_frames: int | None,
    seed: int,
    target: Target,
    clock: StageClock,
    flags: Mapping[str, Any],
) -> tuple[Conditions, list[Path]]:
    """Make the video, or go on with it; returns what it was made for and the files there are.

    Raises:
        InputError: the path is too short, or there is nothing to resume.
        GenerationError: a stage failed; what was made before it plays.
    """
    stride = plan.chunks.size * pipe.codec.temporal_stride
    check_length(pipe.settings.num_frames if num_frames is None else num_frames, len(request.c2w), stride)
    conditions = pipe.prepare(request, num_frames, stride)
    files = StreamFiles.of(target.directory, target.name)
    save_every = 1 if target.save_every is None else target.save_every
    with clock.stage("encode", 1) as report:
        world = World.of(pipe, conditions, seed=seed, plan=plan)
        report(1)
    start = Recording.resume if target.resume else Recording.begin
    with start(world, conditions, files, target.fps, save_every) as recording:
        total = (conditions.num_frames - 1) // world.frames_a_step
        with clock.stage("stream", total) as report:
            busy = stream_video(world, conditions, recording, lambda done, total: report(done))
        recording.describe({**clock.seconds, **busy}, flags)
    return conditions, [path for path in files.all() if path.exists()]
