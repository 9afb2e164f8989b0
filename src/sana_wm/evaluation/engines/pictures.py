"""Grey pictures in which points are found and followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LONGEST_SIDE = 640
"""Larger pictures are made smaller: more pixels cost time and add little to a pose."""
LUMA = (0.299, 0.587, 0.114)
DARKEST, BRIGHTEST = 0.5, 99.5
"""Percentiles of the grey values of a video that become black and white, so that a scene at night has contrast too."""

Grey = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pictures:
    """The grey pictures of one video.

    Attributes:
        grey: n pictures (h,w) uint8 of one size.
        scale: their size over that of the frames. black, white: the grey values (0..255) that became 0 and 255.
    """

    grey: list[Grey]
    scale: tuple[float, float]
    black: float
    white: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.grey[0].shape
        return height, width


def grey_pictures(frames: Tensor, cv2: Any) -> Pictures:
    """The pictures of frames (n,3,H,W) uint8; `cv2` is OpenCV."""
    height, width = frames.shape[2:]
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    size = (round(height * shrink), round(width * shrink))
    raw = [_resized(luma(frame), size, cv2) for frame in frames]
    values = np.concatenate([picture[::4, ::4].ravel() for picture in raw])
    black, white = np.percentile(values, [DARKEST, BRIGHTEST])
    white = max(white, black + 1.0)  # one flat colour has no contrast to stretch
    grey = [stretched(picture, black, white) for picture in raw]
    return Pictures(grey, (size[1] / width, size[0] / height), float(black), float(white))


def luma(frame: Tensor) -> NDArray[np.float32]:
    """(H,W) grey values 0..255 of one frame (3,H,W) uint8."""
    weights = torch.tensor(LUMA).view(3, 1, 1)
    grey: NDArray[np.float32] = (frame.cpu().float() * weights).sum(0).numpy()
    return grey


def stretched(picture: NDArray[np.float32], black: float, white: float) -> Grey:
    return np.rint((picture - black).clip(0, white - black) * (255 / (white - black))).astype(np.uint8)


def scaled_intrinsics(intrinsics: Tensor, scale: tuple[float, float]) -> Floats:
    """(n,4) float64 intrinsics of pictures `scale` times as wide and high; pixel centres lie at integers."""
    across, down = scale
    fx, fy, cx, cy = intrinsics.cpu().double().numpy().T
    return np.stack([fx * across, fy * down, (cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5], axis=1)


def _resized(picture: NDArray[np.float32], size: tuple[int, int], cv2: Any) -> NDArray[np.float32]:
    if picture.shape == size:
        return picture
    smaller: NDArray[np.float32] = cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return smaller
