"""Held-out places to walk through for as long as one likes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sana_wm.engine.world import keys_of_frames
from sana_wm.errors import InputError
from sana_wm.evaluation.minute import LENS_DEG, MINUTE_FRAMES
from sana_wm.geometry.actions import MAX_FRAMES, rollout
from sana_wm.worlds.paths import key_sequence, random_paths
from sana_wm.worlds.procedural import Renderer, SceneAndPath, render_drawn
from sana_wm.worlds.procedural.captions import describe
from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.layout import draw_layout
from sana_wm.worlds.splits import split_seed

FIRST_SCENE = 2**19 + 2**18
"""Index of the first scene in its split, far from the clips of other measures."""
PITCH_LIMIT_DEG = 20.0
"""As far up and down as paths of held keys go in training."""
RANDOM = "random"


@dataclass(frozen=True)
class LongScene:
    """A place and a way through it.

    Attributes:
        drawn: the place, and where the camera is in it.
        c2w: (F,4,4) the same path, relative to its first frame.
    """

    name: str
    drawn: SceneAndPath
    c2w: Tensor

    def render(self, frames: Tensor, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """What is there to see: pictures (n,3,H,W) uint8 of these frames of the path, and their lenses (n,4)."""
        there = replace(self.drawn, c2w=self.drawn.c2w[frames.numpy()])
        pictures, _, intrinsics, _ = render_drawn([there], *size, device, Renderer())
        return pictures[0].cpu(), intrinsics[0].cpu()


def long_scene(split: str, index: int, num_frames: int, keys: str = RANDOM) -> LongScene:
    """Scene `index` of a split that is not trained on, and a path of so many frames.

    keys: "random", or what is held: "w" all the time, "w-80,dw-40" over and over.

    Things stand around the first minute of the path, whatever its length, so a longer one begins as a shorter one
    does; later it leads past them, or through them, onto an empty plain.

    Raises:
        InputError: the split is not held out, there are no such keys, or there are more frames than a path can have.
    """
    if split not in ("test", "validation"):
        raise InputError(f"split is {split!r}; held-out scenes are of 'test' or 'validation'.")
    if num_frames > MAX_FRAMES:
        raise InputError(f"the video is to have {num_frames} frames; at most {MAX_FRAMES} are possible.")
    seed = split_seed(split, FIRST_SCENE + index)
    generator = torch.Generator().manual_seed(seed)
    start = random_paths(1, 2, generator, kinds=("keys",))[0, 0]  # at eye height, looking anywhere
    steps = max(num_frames, MINUTE_FRAMES) - 1
    local = rollout(_held(keys, steps, seed), pitch_limit_deg=PITCH_LIMIT_DEG)
    c2w = (start.double() @ local.double()).float().numpy()
    draws, minute = Draws(generator), c2w[:MINUTE_FRAMES]
    layout = draw_layout(draws, minute)
    caption = describe(layout, minute, LENS_DEG, draws)
    drawn = SceneAndPath(layout.surfaces, layout.environment, np.ascontiguousarray(c2w[:num_frames]), LENS_DEG, caption)
    return LongScene(f"procedural/{split}/{FIRST_SCENE + index:06d}/{keys}", drawn, local[:num_frames])


def _held(keys: str, steps: int, seed: int) -> list[frozenset[str]]:
    """Keys of every step; a sequence begins the same however long it is."""
    if keys == RANDOM:
        return key_sequence(steps, torch.Generator().manual_seed(seed))
    once = [frozenset(held) for held in keys_of_frames(keys, steps)]
    return [once[step % len(once)] for step in range(steps)]
