"""From the game's camera to metres and OpenCV axes.

The game draws a map unit of height 1.2 times as tall on screen as a map unit of width (its art was made for a 320x200
picture shown at 4:3). Heights are therefore multiplied by 1.2 here; the camera then has square pixels and the world is
rigid. World axes: X east, Y down (gravity is along +Y), Z north.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sana_wm.errors import InputError

UNITS_PER_METRE = 32.0
HEIGHT_STRETCH = 1.2
# The levels are dark on a modern screen; players turn the gamma up, and so do the frames.
_GAMMA = 1.4
_BRIGHTEN = np.rint(255 * (np.arange(1021) / 1020) ** (1 / _GAMMA)).astype(
    np.uint8
)  # index: four times a mean of pixels
_ANGLE_STEPS = 8192  # the game rounds half the field of view down to this many steps a turn
# 4:3, 16:10 and 16:9 modes of the engine, smallest first
_MODES = (
    (160, 120), (256, 144), (256, 160), (256, 192), (320, 180), (320, 240), (400, 225), (400, 250), (400, 300),
    (512, 288), (512, 320), (512, 384), (640, 360), (640, 400), (640, 480), (800, 450), (800, 500), (800, 600),
    (1024, 576), (1024, 640), (1024, 768), (1280, 720), (1280, 800), (1280, 960), (1920, 1080),
)  # fmt: skip


@dataclass(frozen=True)
class Lens:
    """How a picture is made of the engine's screen: centre crop, then the mean of every ``scale x scale`` pixels."""

    width: int
    height: int
    screen_width: int
    screen_height: int
    scale: int

    def game_fov(self, horizontal_fov_deg: float) -> float:
        """Return the engine's field of view (degrees, defined on 4:3) that gives the picture ``horizontal_fov_deg``."""
        focal = self.scale * self.width / 2 / math.tan(math.radians(horizontal_fov_deg) / 2)
        return math.degrees(2 * math.atan(self.screen_height * 2 / 3 / focal))

    def intrinsics(self, game_fov_deg: float) -> tuple[float, float, float, float]:
        """Return ``fx, fy, cx, cy`` in pixels of the picture (pixel centres at integers) for the engine's view."""
        half = int(game_fov_deg * _ANGLE_STEPS / 360) // 2 / _ANGLE_STEPS * 2 * math.pi
        focal = self.screen_height * 2 / 3 / math.tan(half) / self.scale
        return focal, focal, (self.width - 1) / 2, (self.height - 1) / 2

    def shrink(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture ``(3, height, width)`` uint8 of a screen ``(3, screen_height, screen_width)`` uint8."""
        k = self.scale
        top, left = (self.screen_height - k * self.height) // 2, (self.screen_width - k * self.width) // 2
        cut = pixels[:, top : top + k * self.height, left : left + k * self.width]
        if k == 1:
            return _BRIGHTEN[cut.astype(np.uint16) * 4]
        if k == 2 and left == 0:
            # Two neighbours are one 16-bit word: adding its halves is several times faster than strided sums.
            words = np.ascontiguousarray(cut).view(np.uint16)
            pairs = (words & 0xFF) + (words >> 8)
            return np.take(_BRIGHTEN, pairs[:, 0::2] + pairs[:, 1::2])
        boxes = cut.reshape(3, self.height, k, self.width, k).sum(axis=(2, 4), dtype=np.uint32)
        return _BRIGHTEN[(4 * boxes + k * k // 2) // (k * k)]

    def shrink_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return depth ``(height, width)`` of a screen of depths: one sample a box, never a mean over an edge."""
        k = self.scale
        top, left = (self.screen_height - k * self.height) // 2, (self.screen_width - k * self.width) // 2
        return depth[top + k // 2 :, left + k // 2 :][: k * self.height : k, : k * self.width : k]


def choose_lens(width: int, height: int) -> Lens:
    """Return the cheapest lens that averages at least 2x2 screen pixels (1x1 where no screen is large enough)."""
    if width < 16 or height < 16:
        raise InputError(f"picture size is {width}x{height}; it must be at least 16x16.")
    for factor in (2, 1):
        fitting = [(w, h) for w, h in _MODES if w >= factor * width and h >= factor * height]
        if fitting:
            # Wasted height costs field of view and time, so the smallest screen is the best one.
            w, h = min(fitting, key=lambda wh: wh[0] * wh[1])
            return Lens(width, height, w, h, min(w // width, h // height))
    raise InputError(f"picture size is {width}x{height}; the game draws at most 1920x1080.")


def camera_to_world(x: float, y: float, z: float, heading: float) -> NDArray[np.float32]:
    """Return ``c2w (4, 4)`` float32 in metres of a camera at ``x, y, z`` (map units) facing ``heading`` (radians)."""
    cos, sin = math.cos(heading), math.sin(heading)
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, 0] = sin, 0, -cos
    matrix[:3, 1] = 0, 1, 0
    matrix[:3, 2] = cos, 0, sin
    matrix[:3, 3] = np.array((x, -HEIGHT_STRETCH * z, y)) / UNITS_PER_METRE
    return matrix
