"""The picture in a corner of the video that shows which way the camera moves (spec 30 section 6).

It is driven by the poses, not by the keys that may have made them. Two things differ from the release on purpose:
tilting up moves the joystick's knob up, and the letters name the keys of today's map (`j` and `l` strafe).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.poses import compose, inverse_rigid

LABELS = ("W", "J", "S", "L")
"""Letters of the four key caps: forward, strafe left, back, strafe right."""
_SMALLEST_WIDTH = 480
CORNERS = ("bottom-left", "bottom-right", "top-left", "top-right")


def relative_motion(c2w: Tensor) -> tuple[Tensor, Tensor]:
    """Motion from each frame to the next in camera axes: translation and (yaw, pitch, roll) degrees, both (F-1,3).

    Angles are intrinsic Y-X-Z; positive yaw turns right, positive pitch tilts up.
    """
    poses = c2w.double()
    step = compose(inverse_rigid(poses[:-1]), poses[1:])
    r = step[:, :3, :3]
    yaw = torch.atan2(r[:, 0, 2], r[:, 2, 2])
    pitch = torch.asin(-r[:, 1, 2].clamp(-1.0, 1.0))
    roll = torch.atan2(r[:, 1, 0], r[:, 1, 1])
    return step[:, :3, 3].float(), torch.rad2deg(torch.stack((yaw, pitch, roll), dim=1)).float()


def lit_keys(translation: Tensor) -> Tensor:
    """Which caps (forward, left, back, right) are lit, bool (F,4), from translations of :func:`relative_motion`."""
    x, z = translation[:, 0], translation[:, 2]
    x_least, z_least = (max(0.005, 0.3 * _percentile95(axis)) for axis in (x, z))
    lit = torch.stack((z > z_least, x < -x_least, z < -z_least, x > x_least), dim=1)
    return _hold_last(lit)


def joystick(euler_deg: Tensor) -> tuple[Tensor, Tensor]:
    """Smoothed knob position in [-1, 1]: right and up, each (F,), from the F-1 rotations of :func:`relative_motion`."""
    knobs = []
    for axis in (euler_deg[:, 0], euler_deg[:, 1]):
        values = (axis.double() / max(0.5, _percentile95(axis))).clamp(-1.0, 1.0).tolist()
        smoothed, level = [], 0.0
        for value in values:
            level = 0.35 * value + 0.65 * level
            smoothed.append(level)
        knobs.append(_hold_last(torch.tensor(smoothed, dtype=torch.float32)))
    return knobs[0], knobs[1]


def _percentile95(values: Tensor) -> float:
    return float(torch.quantile(values.abs().double(), 0.95)) if len(values) else 0.0


def _hold_last(values: Tensor) -> Tensor:
    """One entry more: the last one again, or zero where there is none."""
    return torch.cat((values, values[-1:] if len(values) else values.new_zeros(1, *values.shape[1:])))


@dataclass(frozen=True)
class OverlayLayout:
    """Integer pixel geometry of the overlay; `keys` are the top-left corners of the caps W, left, S, right."""

    key_size: int
    key_gap: int
    key_radius: int
    font_px: int
    margin: int
    keys: tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
    joystick: tuple[int, int]
    joystick_radius: int


def overlay_layout(width: int, height: int, corner: str = "bottom-left") -> OverlayLayout:
    """Where things are drawn on a `width` x `height` frame; fractions are cut off everywhere."""
    if corner not in CORNERS:
        raise InputError(f"overlay corner {corner!r} is unknown; use one of {', '.join(CORNERS)}.")
    size = max(32, int(0.08 * height))
    gap, margin = max(4, int(0.15 * size)), int(0.05 * height)
    cluster_w, cluster_h = 3 * size + 2 * gap, 2 * size + gap
    radius = max(30, int(0.47 * cluster_h))
    at_right, at_top = corner.endswith("right"), corner.startswith("top")
    left = width - margin - cluster_w if at_right else margin
    top = margin if at_top else height - margin - cluster_h
    pitch = size + gap
    keys = ((left + pitch, top), (left, top + pitch), (left + pitch, top + pitch), (left + 2 * pitch, top + pitch))
    joystick_x = left - size - radius if at_right else left + cluster_w + size + radius
    return OverlayLayout(
        size, gap, max(4, int(0.2 * size)), int(0.5 * size), margin, keys, (joystick_x, top + cluster_h // 2), radius
    )


def draw_overlay(frames: npt.NDArray[np.uint8], c2w: Tensor, corner: str = "bottom-left") -> npt.NDArray[np.uint8]:
    """A copy of the frames (F,H,W,3) with the motion of the poses (N,4,4) drawn on; the last state is held if N < F.

    Frames less than 480 pixels wide get the overlay of a larger frame, shrunk, so that it does not cover them.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise InputError(f"frames are {frames.dtype} {frames.shape}; they must be uint8 (frames, height, width, 3).")
    if len(frames) == 0 or len(c2w) == 0:
        raise InputError(
            f"{len(frames)} frames and {len(c2w)} poses were given; the overlay needs at least one of each."
        )
    height, width = frames.shape[1:3]
    zoom = math.ceil(_SMALLEST_WIDTH / width)
    layout = overlay_layout(zoom * width, zoom * height, corner)
    translation, euler = relative_motion(c2w[: len(frames)])
    lit, (right, up) = lit_keys(translation).tolist(), (knob.tolist() for knob in joystick(euler))
    drawn = frames.copy()
    for index, frame in enumerate(drawn):
        i = min(index, len(lit) - 1)
        picture, left_top = _overlay_picture(layout, zoom, tuple(lit[i]), round(right[i], 2), round(up[i], 2))
        image = Image.fromarray(frame)
        image.paste(picture, left_top, picture)
        frame[:] = np.asarray(image)
    return drawn


@lru_cache(maxsize=256)
def _overlay_picture(
    layout: OverlayLayout, zoom: int, lit: tuple[bool, ...], right: float, up: float
) -> tuple[Image.Image, tuple[int, int]]:
    """The whole overlay as one translucent picture, shrunk `zoom` times, and where its top-left corner goes."""
    stick = _joystick_picture(layout.joystick_radius, right, up)
    caps = [
        _key_cap(letter, on, layout.key_size, layout.key_radius, layout.font_px)
        for letter, on in zip(LABELS, lit, strict=True)
    ]
    pad = (caps[0].width - layout.key_size) // 2
    places = [(x - pad, y - pad) for x, y in layout.keys]
    places.append((layout.joystick[0] - stick.width // 2, layout.joystick[1] - stick.height // 2))
    pictures = [*caps, stick]
    # the corner lies on the coarse grid, so that shrinking moves nothing
    x0, y0 = (min(place[axis] for place in places) // zoom * zoom for axis in (0, 1))
    x1 = max(x + picture.width for (x, _), picture in zip(places, pictures, strict=True))
    y1 = max(y + picture.height for (_, y), picture in zip(places, pictures, strict=True))
    whole = Image.new("RGBA", (math.ceil((x1 - x0) / zoom) * zoom, math.ceil((y1 - y0) / zoom) * zoom))
    for (x, y), picture in zip(places, pictures, strict=True):
        whole.alpha_composite(picture, (x - x0, y - y0))
    return whole.reduce(zoom), (x0 // zoom, y0 // zoom)


@lru_cache(maxsize=64)
def _key_cap(letter: str, lit: bool, size: int, radius: int, font_px: int) -> Image.Image:
    """Picture of a cap in the middle of its soft shadow."""
    pad = max(2, size // 8)
    full, cap = size + 2 * pad, (pad, pad, pad + size - 1, pad + size - 1)
    shadow = Image.new("L", (full, full))
    ImageDraw.Draw(shadow).rounded_rectangle(cap, radius, fill=110)
    picture = Image.new("RGBA", (full, full))
    picture.putalpha(shadow.filter(ImageFilter.GaussianBlur(pad / 2)))
    layer = Image.new("RGBA", (full, full))
    draw = ImageDraw.Draw(layer)
    face, ink = ((255, 255, 255, 235), (20, 20, 20, 255)) if lit else ((0, 0, 0, 90), (255, 255, 255, 150))
    draw.rounded_rectangle(cap, radius, fill=face, outline=(255, 255, 255, 120), width=max(1, size // 32))
    draw.text((full / 2, full / 2), letter, fill=ink, font=ImageFont.load_default(font_px), anchor="mm")
    return Image.alpha_composite(picture, layer)


@lru_cache(maxsize=512)
def _joystick_picture(radius: int, right: float, up: float) -> Image.Image:
    """A disc with four direction markers and a knob at (right, up)."""
    half = radius + 2
    picture = Image.new("RGBA", (2 * half + 1, 2 * half + 1))
    draw = ImageDraw.Draw(picture)

    def disc(
        x: float, y: float, r: float, fill: tuple[int, ...] | None, outline: tuple[int, ...] | None = None
    ) -> None:
        draw.ellipse((half + x - r, half + y - r, half + x + r, half + y + r), fill=fill, outline=outline)

    disc(0, 0, radius, (10, 12, 16, 120), (255, 255, 255, 150))
    disc(0, 0, 0.5 * radius, None, (255, 255, 255, 70))
    for line in ((half - radius, half, half + radius, half), (half, half - radius, half, half + radius)):
        draw.line(line, fill=(255, 255, 255, 50))
    # image rows grow downwards, so up is minus y
    for x, y, value in ((1, 0, right), (-1, 0, -right), (0, -1, up), (0, 1, -up)):
        tip, base, side = 0.86 * radius, 0.72 * radius, 0.08 * radius
        corners = [
            (x * tip, y * tip),
            (x * base - y * side, y * base + x * side),
            (x * base + y * side, y * base - x * side),
        ]
        draw.polygon([(half + a, half + b) for a, b in corners], fill=(255, 255, 255, 240 if value > 0.08 else 70))
    knob_x, knob_y = 0.48 * radius * right, -0.48 * radius * up
    draw.line((half, half, half + knob_x, half + knob_y), fill=(255, 255, 255, 130), width=max(1, radius // 12))
    disc(knob_x, knob_y, max(3, math.floor(0.17 * radius)), (255, 255, 255, 240))
    return picture
