"""The procedural world: coloured, textured solids on a plane, ray cast from smooth camera paths with exact poses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sana_wm.worlds.clip import WorldClip
from sana_wm.worlds.paths import random_paths
from sana_wm.worlds.procedural.captions import describe
from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.layout import Layout, draw_layout
from sana_wm.worlds.procedural.render import Renderer
from sana_wm.worlds.procedural.scene import Scene
from sana_wm.worlds.splits import split_seed

__all__ = ["Renderer", "Scene", "SceneAndPath", "clips", "draw", "render_drawn", "sample_batch"]


@dataclass(frozen=True)
class SceneAndPath:
    """Everything about one clip except its pixels; small (a few kB a clip) and picklable, so worker processes can draw
    it.

    Attributes:
        surfaces: ``(NUM_ROWS, NUM_COLS)`` float32, see :mod:`.scene`.
        environment: ``(NUM_ENV,)`` float32.
        c2w: ``(F, 4, 4)`` float32.
        lens: horizontal field of view in degrees; the same for every frame and frame size.
        caption: what the clip shows.
    """

    surfaces: np.ndarray
    environment: np.ndarray
    c2w: np.ndarray
    lens: float
    caption: str


def draw(seed: int, num_frames: int) -> SceneAndPath:
    """Draw the scene, camera path, lens and caption of ``seed`` on the CPU."""
    return draw_with_layout(seed, num_frames)[0]


def draw_with_layout(seed: int, num_frames: int) -> tuple[SceneAndPath, Layout]:
    """As :func:`draw`, and what the scene is made of."""
    generator = torch.Generator().manual_seed(seed)
    c2w = random_paths(1, num_frames, generator)[0].numpy()
    draws = Draws(generator)
    lens = draws.choice((draws.between(50, 100), draws.between(60, 80)))
    layout = draw_layout(draws, c2w)
    caption = describe(layout, c2w, lens, draws)
    return SceneAndPath(layout.surfaces, layout.environment, c2w, lens, caption), layout


def lens_intrinsics(lenses: Sequence[float], num_frames: int, height: int, width: int) -> Tensor:
    """Intrinsics ``(B, F, 4)`` of square pixels for horizontal fields of view in degrees; principal point in the
    middle.
    """
    focal = torch.tensor([0.5 * width / math.tan(math.radians(lens) / 2) for lens in lenses])
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]).expand(len(lenses), 2)
    rows = torch.cat([focal[:, None], focal[:, None], centre], 1)
    return rows[:, None].repeat(1, num_frames, 1)


def render_drawn(
    drawn: Sequence[SceneAndPath],
    height: int,
    width: int,
    device: torch.device | str,
    renderer: Renderer,
    with_depth: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Render drawn clips of equal length: frames ``(B, F, 3, H, W)`` uint8, c2w, intrinsics, depth, all on
    ``device``.
    """
    scene = Scene.stack([d.surfaces for d in drawn], [d.environment for d in drawn]).to(device, non_blocking=True)
    c2w = torch.from_numpy(np.stack([d.c2w for d in drawn])).to(device, non_blocking=True)
    intrinsics = lens_intrinsics([d.lens for d in drawn], c2w.shape[1], height, width).to(device, non_blocking=True)
    frames, depth = renderer(scene, c2w, intrinsics, height, width, with_depth=with_depth)
    return frames, c2w, intrinsics, depth


def sample_batch(
    seeds: Sequence[int],
    num_frames: int,
    height: int,
    width: int,
    device: torch.device | str,
    renderer: Renderer,
) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Draw and render one clip a seed.

    Returns:
        frames ``(B, F, 3, H, W)`` uint8, c2w ``(B, F, 4, 4)`` and intrinsics ``(B, F, 4)`` on ``device``, and the
        captions.
    """
    drawn = [draw(seed, num_frames) for seed in seeds]
    frames, c2w, intrinsics, _ = render_drawn(drawn, height, width, device, renderer)
    return frames, c2w, intrinsics, [d.caption for d in drawn]


def clips(
    split: str,
    start_index: int,
    num: int,
    num_frames: int,
    height: int = 192,
    width: int = 320,
    device: torch.device | str = "cpu",
    with_depth: bool = False,
    renderer: Renderer | None = None,
) -> list[WorldClip]:
    """Render clips ``start_index .. start_index + num - 1`` of ``split``; the same indices always give the same
    clips.
    """
    renderer = renderer or Renderer()
    found = []
    for index in range(start_index, start_index + num):
        drawn = draw(split_seed(split, index), num_frames)
        frames, c2w, intrinsics, depth = render_drawn([drawn], height, width, device, renderer, with_depth)
        found.append(
            WorldClip(
                frames=frames[0],
                c2w=c2w[0],
                intrinsics=intrinsics[0],
                caption=drawn.caption,
                depth=None if depth is None else depth[0],
                name=f"procedural/{split}/{index:06d}",
            )
        )
    return found
