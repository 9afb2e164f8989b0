"""The camera's way seen from above."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIZE = 640
_SHARP = 2
"""Drawn this many times larger and shrunk, which smooths the lines."""
_MARGIN = 90
_TICKS = 16
_HALF_VIEW = math.radians(28)
_MIN_EXTENT = 0.1
PAPER, INK, FAINT = (250, 250, 248), (40, 40, 40), (205, 205, 200)
START, END = (30, 140, 70), (200, 50, 50)

Point = tuple[float, float]


def plot_path(c2w: Tensor) -> Image.Image:
    """Top view of poses (F,4,4): x to the right, z (forward at the start) up, y left out.

    A green dot is the start, a red one the end; pairs of lines show where the camera looks, a bar the scale in units.
    """
    poses = c2w.double().cpu().numpy()
    ground, heading = poses[:, (0, 2), 3], poses[:, (0, 2), 2]
    scale, middle = _fit(ground)

    def place(point: npt.NDArray[np.float64]) -> Point:
        x, z = (point - middle) * scale
        return _SHARP * (SIZE / 2 + x), _SHARP * (SIZE / 2 - z)

    image = Image.new("RGB", (_SHARP * SIZE, _SHARP * SIZE), PAPER)
    draw = ImageDraw.Draw(image)
    line = [place(point) for point in ground]
    colours = [_mix(index / max(1, len(line) - 1)) for index in range(len(line))]
    for index in np.unique(np.linspace(0, len(line) - 1, _TICKS).round().astype(int)).tolist():
        _draw_heading(draw, line[index], heading[index], colours[index])
    for index in range(len(line) - 1):
        draw.line((*line[index], *line[index + 1]), fill=colours[index], width=3 * _SHARP)
    _draw_dot(draw, line[0], START, 7)
    _draw_dot(draw, line[-1], END, 5)
    _draw_legend(draw, scale, len(line))
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _fit(ground: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
    """Pixels a unit, and the point in the middle of the picture, so that all (F,2) points are inside."""
    low, high = ground.min(axis=0), ground.max(axis=0)
    # a camera that only turns is drawn as a point, not blown up to noise
    extent = max(float((high - low).max()), _MIN_EXTENT)
    return (SIZE - 2 * _MARGIN) / extent, (low + high) / 2


def _mix(share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(START, END, strict=True))
    return red, green, blue


def _draw_heading(
    draw: ImageDraw.ImageDraw, at: Point, heading: npt.NDArray[np.float64], colour: tuple[int, ...]
) -> None:
    # Both sides of a field of view; looking up or down shortens them, as it should.
    c, s = math.cos(_HALF_VIEW), math.sin(_HALF_VIEW)
    for side in (-s, s):
        x, z = 24 * _SHARP * (heading @ np.array([[c, side], [-side, c]]))
        draw.line((*at, at[0] + x, at[1] - z), fill=colour, width=_SHARP)


def _draw_dot(draw: ImageDraw.ImageDraw, at: Point, colour: tuple[int, ...], radius: int) -> None:
    r = radius * _SHARP
    draw.ellipse((at[0] - r, at[1] - r, at[0] + r, at[1] + r), fill=colour, outline=PAPER, width=_SHARP)


def _draw_legend(draw: ImageDraw.ImageDraw, scale: float, num_frames: int) -> None:
    font = ImageFont.load_default(13 * _SHARP)
    units = nice_length((SIZE - 2 * _MARGIN) / scale / 3)
    x, y = 24 * _SHARP, (SIZE - 28) * _SHARP
    draw.line((x, y, x + units * scale * _SHARP, y), fill=INK, width=2 * _SHARP)
    draw.text((x, y - 6 * _SHARP), f"{units:g} units", INK, font, anchor="ls")
    draw.text((x, 20 * _SHARP), f"camera path from above, {num_frames} frames", INK, font, anchor="lt")
    right = (SIZE - 24) * _SHARP
    for row, (name, colour) in enumerate((("start", START), ("end", END))):
        height = (28 + 20 * row) * _SHARP
        draw.text((right - 14 * _SHARP, height), name, INK, font, anchor="rm")
        _draw_dot(draw, (right - 4 * _SHARP, height), colour, 5)
    draw.line((right, y, right - 40 * _SHARP, y), fill=FAINT, width=_SHARP)
    draw.line((right - 40 * _SHARP, y, right - 40 * _SHARP, y - 40 * _SHARP), fill=FAINT, width=_SHARP)
    draw.text((right, y - 4 * _SHARP), "x", INK, font, anchor="rs")
    draw.text((right - 46 * _SHARP, y - 40 * _SHARP), "z", INK, font, anchor="rt")


def nice_length(limit: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `limit`."""
    power = 10.0 ** math.floor(math.log10(limit))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= limit * (1 + 1e-9))
