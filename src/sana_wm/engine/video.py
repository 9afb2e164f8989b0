"""A generated video with everything known about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sana_wm.engine.mp4 import write_mp4
from sana_wm.engine.sidecar import write_sidecar
from sana_wm.engine.staging import staged
from sana_wm.errors import InputError


@dataclass(frozen=True)
class WorldVideo:
    """Frames and the cameras they were made for.

    Attributes:
        frames: (F,H,W,3) uint8.
        fps: frames a second.
        c2w: (F,4,4) float32, relative to the first frame, OpenCV axes.
        intrinsics: (F,4) float32, fx, fy, cx, cy in pixels of the frames.
        settings: every setting the video was made with, ready for JSON.
        timings: seconds each stage took.
    """

    frames: npt.NDArray[np.uint8]
    fps: int
    c2w: Tensor
    intrinsics: Tensor
    settings: dict[str, Any]
    timings: dict[str, float] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write the video as H.264 to `path`, which ends in .mp4, and its description to the .json beside it.

        Both appear only when both are complete. `engine.outputs.write_outputs` adds a contact sheet and more.

        Raises:
            InputError: the name ends otherwise, or the place cannot be written.
        """
        path = Path(path)
        if path.suffix != ".mp4":
            raise InputError(f"the video's name is '{path.name}'; it must end in .mp4.")
        with staged(path.parent) as folder:
            begin = time.perf_counter()
            write_mp4(folder / path.name, self.frames, self.fps)
            seconds = {**self.timings, "write": time.perf_counter() - begin}
            write_sidecar(folder / path.with_suffix(".json").name, self, fps=self.fps, timings=seconds)
        return path
