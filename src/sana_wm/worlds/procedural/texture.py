"""Procedural textures that stay below the pixel rate.

Every pattern is filtered with the pixel's footprint: bars by the exact integral of a pulse train over the footprint,
noise and cell tints by fading out before a cell becomes smaller than a pixel. So nothing shimmers when the camera
moves.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fract(x: Tensor) -> Tensor:
    """Fractional part, in [0, 1)."""
    return x - torch.floor(x)


def hash2(x: Tensor, y: Tensor) -> Tensor:
    """Pseudo-random number in [0, 1) for integer-valued floats; arithmetic only, so it is the same on every device."""
    a, b = fract(x * 0.1031), fract(y * 0.1031)
    dot = a * (b + 33.33) + b * (a + 33.33) + a * (a + 33.33)
    a, b, c = a + dot, b + dot, a + dot
    return fract((a + b) * c)


def value_noise(x: Tensor, y: Tensor) -> Tensor:
    """Smooth noise in [-1, 1] with cells of size 1."""
    ix, iy = torch.floor(x), torch.floor(y)
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    top = torch.lerp(hash2(ix, iy), hash2(ix + 1, iy), fx)
    bottom = torch.lerp(hash2(ix, iy + 1), hash2(ix + 1, iy + 1), fx)
    return torch.lerp(top, bottom, fy) * 2 - 1


def fade(width: Tensor) -> Tensor:
    """Weight of a detail whose cells are ``1 / width`` pixels wide: 1 when large, 0 below two pixels."""
    return ((0.5 - width) * 4).clamp(0, 1)


def bars(x: Tensor, share: Tensor, width: Tensor) -> Tensor:
    """Coverage of a pulse train of period 1 (on for ``share`` around every integer) under a box of ``width``."""
    width = width.clamp_min(1e-3)
    low = x + 0.5 * share - 0.5 * width
    high = low + width
    integral_high = torch.floor(high) * share + torch.minimum(fract(high), share)
    integral_low = torch.floor(low) * share + torch.minimum(fract(low), share)
    return ((integral_high - integral_low) / width).clamp(0, 1)


def smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    """Cubic step from 0 at ``low`` to 1 at ``high``."""
    s = ((x - low) / (high - low)).clamp(0, 1)
    return s * s * (3 - 2 * s)
