"""What becomes of a picture over a minute: distance to the truth, sharpness, and whether places come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sana_wm.checkpoints.components import Components
from sana_wm.engine.stream_plan import plan_video
from sana_wm.evaluation.clip_measures import capped_psnr
from sana_wm.evaluation.generate import generate
from sana_wm.evaluation.held_out import procedural_clip
from sana_wm.evaluation.image import frame_psnr, sharpness
from sana_wm.evaluation.minute import WINDOW_SECONDS, keyed_scene
from sana_wm.evaluation.revisit import best_pairs, find_pairs
from sana_wm.worlds.procedural import Renderer
from sana_wm.worlds.splits import split_seed

FIRST_SCENE = 2**18
"""Index in the test split of the first of these scenes, far from those of other measures."""


def measure_long(
    components: Components,
    device: torch.device,
    *,
    scenes: int,
    num_frames: int,
    renderer: Renderer,
    report: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Curves and revisits of `scenes` long clips along random held keys, one after another.

    `psnr`, `sharpness` (over that of the truth): means over windows of 10 s. `revisit_psnr`, `revisit_psnr_of_truth`:
    between the two frames of the path's best revisit pairs, mean over pairs; None for a path that never comes back.
    """
    settings = components.settings
    plan = plan_video(settings)
    found = []
    for index in range(scenes):
        drawn = keyed_scene(split_seed("test", FIRST_SCENE + index), num_frames)
        name = f"procedural/test/{FIRST_SCENE + index:06d}/keys"
        clip = procedural_clip(drawn, name, (settings.height, settings.width), device, renderer)
        video, truth = generate(components, clip, clip.captions, plan, batch=1)[0], clip.frames[0]
        pairs = [(p.frame_a, p.frame_b) for p in best_pairs(find_pairs(clip.c2w[0].cpu(), settings.fps))]
        window = WINDOW_SECONDS * settings.fps
        found.append(
            {
                "name": name,
                "psnr": _windows(capped_psnr(video, truth), window),
                "sharpness": _windows(sharpness(video) / sharpness(truth).clamp_min(1e-6), window),
                "revisit_psnr": _between(video, pairs),
                "revisit_psnr_of_truth": _between(truth, pairs),
            }
        )
        if report is not None:
            report(index + 1)
    return found


def _windows(values: Tensor, length: int) -> list[float]:
    """Means over frames 1 ... length, length + 1 ... of a curve (F,); frame 0 is given, not made."""
    return [float(part.mean()) for part in values[1:].split(length)]


def _between(video: Tensor, pairs: list[tuple[int, int]]) -> float | None:
    if not pairs:
        return None
    a, b = (torch.tensor(frames, device=video.device) for frames in zip(*pairs, strict=True))
    return float(frame_psnr(video[a], video[b]).mean())
