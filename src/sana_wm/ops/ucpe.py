"""Application of ray frames to attention features: unified camera positional encoding (spec 10, section 7).

The first half of a head is read as groups of four channels, each a homogeneous vector that a 4x4 ray matrix acts on;
the second half is rotated by the camera sub-table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.ops.rotary import rotate_pairs


@dataclass(frozen=True)
class RayFrames:
    """Per-token camera transforms, shared by heads and blocks.

    Attributes:
        ray_from_world: P, (B, N, 4, 4).
        world_from_ray: its inverse, (B, N, 4, 4).
        cos, sin: (N, D/4) camera sub-table.
    """

    ray_from_world: Tensor
    world_from_ray: Tensor
    cos: Tensor
    sin: Tensor

    def query(self, x: Tensor) -> Tensor:
        """P^T on the first half, rotation by +theta on the second; x (B, N, h, D)."""
        return self._apply(x, self.ray_from_world.mT, self.sin)

    def key_value(self, x: Tensor) -> Tensor:
        """P^-1 on the first half, rotation by +theta on the second; keys and values alike."""
        return self._apply(x, self.world_from_ray, self.sin)

    def output(self, x: Tensor) -> Tensor:
        """P on the first half, rotation by -theta on the second: the result lives in the query's ray frame."""
        return self._apply(x, self.ray_from_world, -self.sin)

    def _apply(self, x: Tensor, matrix: Tensor, sin: Tensor) -> Tensor:
        geometric, rotary = x.float().chunk(2, dim=-1)
        groups = geometric.unflatten(-1, (-1, 4))
        columns = matrix[:, :, None, None]  # (B, N, 1, 1, 4, 4)
        # Four multiply-adds rather than a batch of 4x4 products: a compiler can fuse them with what surrounds them.
        moved = columns[..., 0] * groups[..., 0, None]
        for j in range(1, 4):
            moved = moved + columns[..., j] * groups[..., j, None]
        rotated = rotate_pairs(rotary, self.cos[:, None], sin[:, None])
        return torch.cat([moved.flatten(-2), rotated], dim=-1)
