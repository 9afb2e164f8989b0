"""Application of ray frames to attention features: unified camera positional encoding (spec 10, section 7).

The first half of a head is read as groups of four channels, each a homogeneous vector that a 4x4 ray matrix acts on;
the second half is rotated by the camera sub-table.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sana_wm.ops.prepare import Turn


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

    @property
    def query(self) -> Turn:
        """P^T on the first half, rotation by +theta on the second."""
        return Turn(self.cos, self.sin, self.ray_from_world, transposed=True)

    @property
    def key_value(self) -> Turn:
        """P^-1 on the first half, rotation by +theta on the second; keys and values alike."""
        return Turn(self.cos, self.sin, self.world_from_ray)

    @property
    def output(self) -> Turn:
        """P on the first half, rotation by -theta on the second: the result lives in the query's ray frame."""
        return Turn(self.cos, self.sin, self.ray_from_world, inverse=True)
