"""The description beside a video: how it was made, in JSON."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm import __version__
from sana_wm.geometry.overlay import relative_motion

if TYPE_CHECKING:
    from sana_wm.engine.video import WorldVideo

FORMAT, VERSION = "sana-wm video", 1


def write_sidecar(
    path: Path,
    video: WorldVideo,
    *,
    fps: int,
    timings: Mapping[str, float],
    request: Mapping[str, Any] | None = None,
) -> None:
    """Write the JSON description of `video` as it was written: `fps` of its file, `timings` with the writing in it.

    `request` is what the command line was asked for.
    """
    height, width = video.frames.shape[1:3]
    pixels = {"frames_sha256": frames_sha256(video.frames)}
    write_description(path, (height, width), fps, video.settings, video.c2w, pixels, timings, request)


def write_description(
    path: Path,
    size: tuple[int, int],
    fps: int,
    settings: Mapping[str, Any],
    c2w: Tensor,
    pixels: Mapping[str, Any],
    timings: Mapping[str, float],
    request: Mapping[str, Any] | None = None,
) -> None:
    """The same without the frames: `size` is their height and width, c2w (F,4,4), `pixels` what is said of them."""
    (height, width), count = size, len(c2w)
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "video": {"num_frames": count, "height": height, "width": width, "fps": fps, "seconds": round(count / fps, 3)},
        "settings": dict(settings),
        "camera": summarize_path(c2w),
        **pixels,
        "timings_seconds": {stage: round(seconds, 3) for stage, seconds in timings.items()},
        "versions": versions(),
    }
    if request is not None:
        content["request"] = dict(request)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def frames_sha256(frames: npt.NDArray[np.uint8]) -> str:
    """Hash of the pixels (F,H,W,3) in memory order, before any video compression."""
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()


def summarize_path(c2w: Tensor) -> dict[str, Any]:
    """Length and turns of the poses (F,4,4), in scene units and degrees; (x, y, z) is OpenCV's of the first frame."""
    translation, _ = relative_motion(c2w)
    z = c2w[:, :3, 2].double()
    heading = np.degrees(np.unwrap(np.arctan2(z[:, 0].numpy(), z[:, 2].numpy())))
    return {
        "convention": "camera-to-world, OpenCV axes (x right, y down, z forward), relative to the first frame",
        "path_length_units": round(float(translation.norm(dim=1).sum()), 5),
        "end_position_units": [round(value, 5) for value in c2w[-1, :3, 3].tolist()],
        "end_heading_deg": round(float(heading[-1]), 4),
        "heading_range_deg": [round(float(heading.min()), 4), round(float(heading.max()), 4)],
        "end_pitch_deg": round(math.degrees(math.asin(max(-1.0, min(1.0, -float(z[-1, 1]))))), 4),
    }


def versions() -> dict[str, str]:
    """Versions of everything that decides what a seed gives."""
    return {
        "sana_wm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,  # with its build, which the package's version leaves out
        **{name: metadata.version(name) for name in ("numpy", "pillow")},
        "platform": platform.platform(),
    }
