"""What a video is made from, once every question about the input is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

IntrinsicsSource = Literal["given", "pose file", "field of view", "default"]


@dataclass(frozen=True)
class Conditions:
    """Input of the pipeline in the form its model takes; no stage after this looks at raw user input.

    Attributes:
        image: (3,H,W) float32 in [-1, 1], the first frame.
        prompt: scene text; negative_prompt: what guidance moves away from, read only with guidance.
        c2w: (F,4,4) float32, relative to the first frame, OpenCV axes.
        intrinsics: (F,4) float32, fx, fy, cx, cy in pixels of `image`.
        height, width: pixels of the video; num_frames: F = 8k + 1.
        frames_requested, frames_available: what F was decided from: the frames asked for and the poses there are.
        intrinsics_source: where the intrinsics come from.
        source_wh: width and height of the upright source picture; source_intrinsics: (4,) of its first frame.
    """

    image: Tensor
    prompt: str
    negative_prompt: str
    c2w: Tensor
    intrinsics: Tensor
    height: int
    width: int
    num_frames: int
    frames_requested: int
    frames_available: int
    intrinsics_source: IntrinsicsSource
    source_wh: tuple[int, int]
    source_intrinsics: Tensor
