"""From an order to the files of its video."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm.engine.conditions import Conditions
from sana_wm.engine.order import VideoOrder
from sana_wm.engine.outputs import write_outputs
from sana_wm.engine.pipeline import SanaWMPipeline, noise_generator
from sana_wm.engine.preprocess import Request
from sana_wm.engine.progress import Progress
from sana_wm.engine.scene import Scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """What the video was made for, the rate of its file, and where its files are."""

    conditions: Conditions
    fps: int
    paths: list[Path]


def file_rate(pipe: SanaWMPipeline, order: VideoOrder, scene: Scene) -> int:
    """Frames a second of the file; warns where the poses were meant for another rate."""
    rate = pipe.settings.fps if order.fps is None else order.fps
    if scene.camera_fps is not None and scene.camera_fps != rate:
        logger.warning("the poses are for %g frames a second, the video is written at %d", scene.camera_fps, rate)
    return rate


def fulfil(
    pipe: SanaWMPipeline,
    order: VideoOrder,
    scene: Scene,
    request: Request,
    directory: Path,
    name: str,
    *,
    asked: Mapping[str, Any],
    timings: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    mark: str = "",
) -> Made:
    """Make the video of an order and write its files; all of them appear, or none.

    Args:
        asked: the order in its own words, for the description.
        timings: seconds of stages before, for the description.
        mark: see :func:`~sana_wm.engine.staging.staged`.

    Raises:
        InputError: the place cannot be written.
        GenerationError: the model made no video.
    """
    rate = file_rate(pipe, order, scene)
    plan = pipe.plan(order.step, order.cfg_scale, order.flow_shift)
    conditions = pipe.prepare(request, order.num_frames)
    video = pipe.generate(conditions, plan, noise_generator(order.seed), progress)
    paths = write_outputs(
        video, directory, name,
        fps=rate, overlay=order.overlay, timings=timings, request=asked, progress=progress, mark=mark,
    )  # fmt: skip
    return Made(conditions, rate, list(paths.values()))
