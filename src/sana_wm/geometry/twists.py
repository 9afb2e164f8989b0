"""Constant velocities of a camera in its own axes, and the poses they lead through."""

from __future__ import annotations

import torch
from torch import Tensor


def carried(c2w: Tensor, velocity: Tensor, count: int) -> Tensor:
    """Poses (count,4,4) float32 of a camera at `c2w` (4,4) that moves with one velocity for `count` frames.

    velocity: (6,) per frame: right, down, forward in units; then tilt up, turn right, roll clockwise in radians, which
    are the turns about those three axes by the right-hand rule. The axes are the camera's own and turn with it, so
    frame i is c2w exp(i [velocity]) (spec 30, OpenCV axes).
    """
    x, y, z, a, b, c = velocity.double().tolist()
    twist = torch.tensor([[0.0, -c, b, x], [c, 0.0, -a, y], [-b, a, 0.0, z], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    times = torch.arange(1, count + 1, dtype=torch.float64)[:, None, None]
    return (c2w.double().cpu() @ torch.linalg.matrix_exp(times * twist)).float()
