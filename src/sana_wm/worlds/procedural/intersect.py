"""Ray against solid, for one solid at a time and all pixels at once.

Every solid is met in its own *unit frame*, in which it is ``|x|, |y|, |z| <= 1`` or the unit ball or cylinder. The
rows of :func:`unit_frames` carry the affine map. The functions are plain pointwise arithmetic on broadcastable
tensors, without any branch on data, so a compiler can fuse the loop over the solids into one kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.worlds.procedural.scene import Col

FAR = 1.0e9
"""Distance that stands for "no hit"."""

Vec = tuple[Tensor, Tensor, Tensor]


def unit_frames(surfaces: Tensor) -> Tensor:
    """Affine maps into the unit frames: ``(..., rows, 5)`` of ``cos/hx, sin/hx, 1/hy, -sin/hz, cos/hz``."""
    cos, sin = surfaces[..., Col.COS], surfaces[..., Col.SIN]
    hx, hy, hz = (surfaces[..., c] for c in (Col.HX, Col.HY, Col.HZ))
    return torch.stack([cos / hx, sin / hx, 1 / hy, -sin / hz, cos / hz], -1)


def to_unit(frames: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Map world vectors (no translation) into the unit frames; the arguments broadcast; ``(..., 3)``."""
    a, b, c, d, e = frames.unbind(-1)
    return torch.stack([a * x + b * z, c * y, d * x + e * z], -1)


def _not_zero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1e-7, torch.full_like(x, 1e-7), x)


def box_span(origin: Vec, direction: Vec) -> tuple[Tensor, Tensor]:
    """Entry and exit parameter of the unit cube; a miss has entry > exit."""
    near, far = None, None
    for o, d in zip(origin, direction, strict=True):
        inverse = 1 / _not_zero(d)
        middle, half = -o * inverse, inverse.abs()
        near = middle - half if near is None else torch.maximum(near, middle - half)
        far = middle + half if far is None else torch.minimum(far, middle + half)
    assert near is not None
    assert far is not None
    return near, far


def wedge_span(origin: Vec, direction: Vec, taper_x: Tensor, taper_z: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit parameter of the unit cube whose sides lean inwards: ``|x| <= 1 - taper_x * (1 - y) / 2``."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    inverse = 1 / _not_zero(dy)
    near, far = -oy * inverse - inverse.abs(), -oy * inverse + inverse.abs()
    for o, d, taper in ((ox, dx, taper_x), (oz, dz, taper_z)):
        m = 0.5 * taper
        lean_o, lean_d = 1 - m + m * oy, m * dy
        for side in (1.0, -1.0):
            slope = _not_zero(side * d - lean_d)
            t = (lean_o - side * o) / slope
            near = torch.maximum(near, torch.where(slope < 0, t, -FAR))
            far = torch.minimum(far, torch.where(slope > 0, t, FAR))
    return near, far


def ball_span(origin: Vec, direction: Vec) -> tuple[Tensor, Tensor]:
    """Entry and exit parameter of the unit ball; a miss has entry > exit."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    inverse = 1 / (dx * dx + dy * dy + dz * dz)
    middle = -(ox * dx + oy * dy + oz * dz) * inverse
    qx, qy, qz = ox + middle * dx, oy + middle * dy, oz + middle * dz
    return _chord(middle, inverse, qx * qx + qy * qy + qz * qz)


def column_span(origin: Vec, direction: Vec) -> tuple[Tensor, Tensor]:
    """Entry and exit parameter of the unit cylinder ``x^2 + z^2 <= 1, |y| <= 1``; a miss has entry > exit."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    inverse = 1 / (dx * dx + dz * dz + 1e-12)
    middle = -(ox * dx + oz * dz) * inverse
    qx, qz = ox + middle * dx, oz + middle * dz
    near, far = _chord(middle, inverse, qx * qx + qz * qz)
    inverse = 1 / _not_zero(dy)
    middle, half = -oy * inverse, inverse.abs()
    return torch.maximum(near, middle - half), torch.minimum(far, middle + half)


def _chord(middle: Tensor, inverse: Tensor, squared: Tensor) -> tuple[Tensor, Tensor]:
    """Span around the point nearest to the centre, whose squared distance is ``squared``.

    The textbook discriminant ``b^2 - a c`` loses its digits far from the solid; the distance itself does not.
    """
    half = torch.sqrt(((1 - squared) * inverse).clamp_min(0))
    hit = squared < 1
    return torch.where(hit, middle - half, FAR), torch.where(hit, middle + half, -FAR)
