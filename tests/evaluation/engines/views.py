"""True renders of a small clip, from its own path and from others through the same scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sana_wm.evaluation.engines import TrueViews
from sana_wm.worlds.procedural import Renderer, SceneAndPath, draw, render_drawn
from sana_wm.worlds.splits import split_seed

SIZE = (120, 200)
FRAMES, INTERVAL = 33, 4


def scene() -> SceneAndPath:
    """One with a walk through things that have texture."""
    return draw(split_seed("validation", 3), FRAMES)


def views(drawn: SceneAndPath, size: tuple[int, int] = SIZE) -> TrueViews:
    sampled = replace(drawn, c2w=np.ascontiguousarray(drawn.c2w[::INTERVAL]))
    frames, c2w, intrinsics, depth = render_drawn([sampled], *size, "cpu", Renderer(samples=2), with_depth=True)
    assert depth is not None
    return TrueViews(frames[0], depth[0], c2w[0], intrinsics[0])


def forward_path(metres: float, yaw_deg: float, count: int = FRAMES) -> Tensor:
    """(count,4,4) relative poses: ahead and turning right, evenly."""
    angle = torch.linspace(0, float(np.radians(yaw_deg)), count)
    path = torch.eye(4).repeat(count, 1, 1)
    path[:, 0, 0] = path[:, 2, 2] = angle.cos()
    path[:, 0, 2], path[:, 2, 0] = angle.sin(), -angle.sin()
    path[:, 2, 3] = torch.linspace(0, metres, count)
    return path


def along(drawn: SceneAndPath, relative: Tensor) -> SceneAndPath:
    """The scene from its first pose on, along another path."""
    return replace(drawn, c2w=(torch.from_numpy(drawn.c2w[:1]) @ relative).numpy())
