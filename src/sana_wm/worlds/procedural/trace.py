"""Which solid a ray meets first, and whether the sun reaches that point: the loop over the solids.

:func:`trace_plain` reads like the mathematics and runs everywhere; on a CUDA device :func:`trace` runs the same loop as
one Triton kernel (`trace_triton`), because a compiler that unrolls two passes over all solids takes minutes.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import torch
from torch import Tensor

from sana_wm.worlds.procedural.shade import View, in_shadow, nearest, rays


class Hits(NamedTuple):
    """depth (N, P) along the camera's z axis (`intersect.FAR` for sky), row (N, P) int32, shadow (N, P) bool."""

    depth: Tensor
    row: Tensor
    shadow: Tensor


def trace_plain(view: View) -> Hits:
    direction = rays(view)
    depth, row = nearest(view, direction)
    x, y, z = direction
    return Hits(depth, row, in_shadow(view, (depth * x, depth * y, depth * z)))


def uses_triton(device: torch.device) -> bool:
    """Whether Triton kernels run there: a CUDA device, and Triton is installed."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def trace(view: View) -> Hits:
    """The Triton kernel on CUDA where Triton is installed, the plain loop elsewhere."""
    if uses_triton(view.xs.device):
        from sana_wm.worlds.procedural.trace_triton import trace_triton

        return Hits(*trace_triton(view))
    return trace_plain(view)

