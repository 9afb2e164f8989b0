"""Camera paths with known motion, and poses bent in known ways, for the tests of the metrics."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sana_wm.evaluation.splines import rotation_matrix
from sana_wm.geometry.poses import rigid


def turned(axis: tuple[float, float, float], degrees: Tensor | float) -> Tensor:
    """Rotations (...,3,3) float64 by degrees (...) about an axis."""
    half = torch.as_tensor(degrees, dtype=torch.float64) * math.pi / 360
    direction = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0)
    return rotation_matrix(torch.cat((half.cos()[..., None], half.sin()[..., None] * direction), dim=-1))


def winding(frames: int = 40) -> Tensor:
    """Poses (frames,4,4) float64 of a climbing, turning path that lies in no plane."""
    t = torch.linspace(0, 1, frames, dtype=torch.float64)
    centre = torch.stack((torch.sin(4 * t), 0.3 * torch.cos(7 * t), 3 * t), dim=1)
    return rigid(turned((0, 1, 0.2), 90 * t), centre)


def straight(frames: int = 20) -> Tensor:
    t = torch.linspace(0, 2, frames, dtype=torch.float64)
    return rigid(turned((1, 0, 0), 10 * t), torch.stack((t * 0, t * 0, t), dim=1))


def moved(c2w: Tensor, scale: float = 2.5) -> Tensor:
    """The same path in another world frame and unit: what a pose engine without scale gives."""
    rotation = turned((0.3, 1.0, -0.4), 70.0)
    centre = scale * c2w[:, :3, 3] @ rotation.mT + torch.tensor([1.0, -4.0, 2.0], dtype=torch.float64)
    return rigid(rotation @ c2w[:, :3, :3], centre)


def shaken(c2w: Tensor, size: float, seed: int = 0) -> Tensor:
    """Poses with independent errors: `size` units in each coordinate and 20 `size` degrees."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(c2w), 6, generator=generator, dtype=torch.float64)
    turns = torch.stack([turned(tuple(row[:3].tolist()), float(20 * size * row[3])) for row in noise])
    return rigid(c2w[:, :3, :3] @ turns, c2w[:, :3, 3] + size * noise[:, 3:])
