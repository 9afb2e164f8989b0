"""Procedural scenes of our own benchmark: one world that both splits' paths keep clear of.

The layout of a scene grows around the paths that will be taken in it, at full size and for a usual scene scale; what
the paths then do is measured in the finished scene.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.evaluation.bench.nano.courses import Course
from sana_wm.evaluation.splines import rotation_matrix
from sana_wm.geometry.poses import compose, rigid
from sana_wm.geometry.rays import ray_directions
from sana_wm.worlds.procedural import Renderer, Scene, lens_intrinsics
from sana_wm.worlds.procedural.captions import describe
from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.layout import Layout, draw_layout

USUAL_SCALE = 7.0
"""Metres: scene scale at which the layout keeps clear of the whole paths."""
LAYOUT_POSES = 193
EYE_HEIGHT, LENS_DEG = (1.45, 1.8), (60.0, 80.0)
FACE = 24
"""Side of the six square depth pictures, together all around, from which points of the scene are taken."""


@dataclass(frozen=True)
class DrawnWorld:
    """A procedural scene with the pose of its first frame (4,4) float64, and its lens: horizontal degrees."""

    layout: Layout
    start: Tensor
    lens: float

    def poses(self, c2w: Tensor) -> Tensor:
        """Poses (F,4,4) float32 in the world, of poses relative to the first frame."""
        return compose(self.start, c2w.double()).float()

    def intrinsics(self, num_frames: int, height: int, width: int) -> Tensor:
        """(num_frames,4) float32 in pixels."""
        return lens_intrinsics([self.lens], num_frames, height, width)[0]

    def render(
        self,
        c2w: Tensor,
        size: tuple[int, int],
        renderer: Renderer,
        device: torch.device | str = "cpu",
        with_depth: bool = False,
        intrinsics: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Frames (F,3,H,W) uint8 and planar depth (F,H,W) for world poses (F,4,4); the scene's lens by default."""
        scene = Scene.stack([self.layout.surfaces], [self.layout.environment]).to(device)
        lens = self.intrinsics(len(c2w), *size) if intrinsics is None else intrinsics
        frames, depth = renderer(scene, c2w[None].to(device), lens[None].to(device), *size, with_depth=with_depth)
        return frames[0], None if depth is None else depth[0]

    def caption(self, c2w: Tensor, seed: int) -> str:
        """What shows along world poses (F,4,4)."""
        draws = Draws(torch.Generator().manual_seed(seed))
        return describe(self.layout, c2w.numpy(), self.lens, draws)


def draw_world(seed: int, courses: Sequence[Course]) -> DrawnWorld:
    """The scene of `seed` around these courses, which count at their full amplitude; the same every time."""
    draws = Draws(torch.Generator().manual_seed(seed))
    height, heading, lens = draws.between(*EYE_HEIGHT), draws.between(0, 2 * math.pi), draws.between(*LENS_DEG)
    half = torch.tensor(heading / 2, dtype=torch.float64)
    zero = torch.zeros_like(half)
    turn = rotation_matrix(torch.stack((half.cos(), zero, half.sin(), zero)))
    start = rigid(turn, torch.tensor([0.0, -height, 0.0], dtype=torch.float64))
    paths = torch.cat([course.path(LAYOUT_POSES, USUAL_SCALE) for course in courses])
    layout = draw_layout(draws, compose(start, paths).float().numpy())
    return DrawnWorld(layout, start, lens)


def surrounding_points(world: DrawnWorld, centres: Tensor, renderer: Renderer) -> Tensor:
    """Points (n,3) float64 that can be seen from centres (P,3), in the frame of the first pose; sky is left out."""
    faces = _all_around()
    c2w = rigid(faces.repeat(len(centres), 1, 1), centres.double().repeat_interleave(len(faces), dim=0))
    lens = lens_intrinsics([90.0], len(c2w), FACE, FACE)[0]
    _, depth = world.render(world.poses(c2w), (FACE, FACE), renderer, with_depth=True, intrinsics=lens)
    assert depth is not None
    rays = ray_directions(lens, FACE, FACE).double().reshape(len(c2w), -1, 3)
    distance = depth.double().reshape(len(c2w), -1, 1)
    camera = rays * distance
    points = (c2w[:, None, :3, :3] * camera[..., None, :]).sum(-1) + c2w[:, None, :3, 3]
    return points[torch.isfinite(distance[..., 0])]


def _all_around() -> Tensor:
    """Rotations (6,3,3) float64 that look ahead, right, back, left, up and down."""
    half = math.sqrt(0.5)
    turns = [
        (1, 0, 0, 0),
        (half, 0, half, 0),
        (0, 0, 1, 0),
        (half, 0, -half, 0),
        (half, half, 0, 0),
        (half, -half, 0, 0),
    ]
    return rotation_matrix(torch.tensor(turns, dtype=torch.float64))
