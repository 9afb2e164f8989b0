"""A whole video of a model that sees only the past: the chunks of a stream, kept in memory."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from sana_wm.engine.conditions import Conditions
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.progress import StageClock
from sana_wm.engine.streaming import stream_video
from sana_wm.engine.video import WorldVideo
from sana_wm.engine.world import World
from sana_wm.engine.world_state import WorldState
from sana_wm.models.config import StreamSettings


@dataclass
class _Kept:
    """The frames of every chunk."""

    frames: list[npt.NDArray[np.uint8]] = field(default_factory=list)

    def write(self, frames: npt.NDArray[np.uint8], state: WorldState) -> None:
        del state
        self.frames.append(frames)


def chunked_video(
    pipe: SanaWMPipeline, conditions: Conditions, plan: StreamSettings, seed: int, clock: StageClock
) -> WorldVideo:
    """The frames that the same path gives as a stream, step by step or into a growing file.

    The last chunk is made whole and cut to the frames asked for; in what is cut the camera stands still.

    Raises:
        InputError: the model's codec cannot stream.
        GenerationError: a stage failed; the message names it and the chunk.
    """
    begin = time.perf_counter()
    with clock.stage("encode", 1) as report:
        world = World.of(pipe, conditions, seed=seed, plan=plan)
        report(1)
    chunks = max(1, math.ceil((conditions.num_frames - 1) / world.frames_a_step))
    kept = _Kept()
    with clock.stage("stream", chunks) as report:
        whole = _standing_still(conditions, world.num_frames_after(chunks))
        busy = stream_video(world, whole, kept, lambda done, total: report(done))
    return WorldVideo(
        frames=np.concatenate(kept.frames)[: conditions.num_frames],
        fps=pipe.settings.fps,
        c2w=conditions.c2w,
        intrinsics=conditions.intrinsics,
        settings=pipe.describe(conditions, seed) | {"stream": asdict(plan)},
        timings={**clock.seconds, **busy, "generate": time.perf_counter() - begin},
    )


def _standing_still(conditions: Conditions, frames: int) -> Conditions:
    """The same path, which stays at its end until there are so many frames."""
    rows = torch.arange(frames).clamp(max=conditions.num_frames - 1)
    return replace(conditions, c2w=conditions.c2w[rows], intrinsics=conditions.intrinsics[rows], num_frames=frames)
