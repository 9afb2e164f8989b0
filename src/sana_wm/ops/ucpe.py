"""Application of ray frames to attention features: unified camera positional encoding (spec 10, section 7).

The first half of a head is read as groups of four channels, each a homogeneous vector that a 4x4 ray matrix acts on;
the second half is rotated by the camera sub-table.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sana_wm.ops.features import move_heads


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
        return move_heads(x, self.ray_from_world, self.cos, self.sin, transposed=True)

    def key_value(self, x: Tensor) -> Tensor:
        """P^-1 on the first half, rotation by +theta on the second; keys and values alike."""
        return move_heads(x, self.world_from_ray, self.cos, self.sin)

    def output(self, x: Tensor) -> Tensor:
        """P on the first half, rotation by -theta on the second: the result lives in the query's ray frame."""
        return move_heads(x, self.ray_from_world, self.cos, self.sin, inverse=True)
