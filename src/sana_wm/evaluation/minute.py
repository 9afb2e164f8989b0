"""One minute from one frame: does the picture stay a picture?"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sana_wm.checkpoints.components import Components
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.stream_plan import VideoPlan
from sana_wm.evaluation.generate import generate
from sana_wm.evaluation.held_out import HeldOut, procedural_clip
from sana_wm.evaluation.image import sharpness
from sana_wm.evaluation.sheets import write_sheet
from sana_wm.sampling import SamplingError
from sana_wm.worlds.paths import random_paths
from sana_wm.worlds.procedural import Renderer, SceneAndPath
from sana_wm.worlds.procedural.captions import describe
from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.layout import draw_layout
from sana_wm.worlds.splits import split_seed

MINUTE_FRAMES = 961
SCENE_INDEX = 2**19
"""Index of the scene in its split, far from the clips of the other measures."""
LENS_DEG = 70.0
WINDOW_SECONDS = 10
FROZEN_BELOW = 0.1
"""Mean absolute difference, in 8-bit levels, under which a frame repeats the one before it."""
SHEET_COLUMNS, SHEET_FRAMES = 6, 24

LEAST_STD, LEAST_SHARPNESS, MOST_FROZEN = 0.5, 0.4, 0.02
"""What counts as no grey-out (share of the first window's contrast and sharpness) and not frozen (share of frames)."""


def keyed_scene(seed: int, num_frames: int) -> SceneAndPath:
    """The scene of `seed` around a path driven by random held keys."""
    generator = torch.Generator().manual_seed(seed)
    c2w = random_paths(1, num_frames, generator, kinds=("keys",))[0].numpy()
    draws = Draws(generator)
    layout = draw_layout(draws, c2w)
    return SceneAndPath(layout.surfaces, layout.environment, c2w, LENS_DEG, describe(layout, c2w, LENS_DEG, draws))


def measure_minute(
    components: Components,
    device: torch.device,
    plan: VideoPlan,
    *,
    split: str,
    num_frames: int,
    renderer: Renderer,
    seed: int,
    out: Path | None,
    report: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Generate one long video and describe it window by window beside its true render; with `out`, draw minute.png."""
    settings = components.settings
    drawn = keyed_scene(split_seed(split, SCENE_INDEX), num_frames)
    name = f"procedural/{split}/{SCENE_INDEX:06d}/keys"
    clip = procedural_clip(drawn, name, (settings.height, settings.width), device, renderer)
    result: dict[str, Any] = {"name": name, "caption": drawn.caption, "num_frames": num_frames, "finite": True}
    try:
        video = generate(components, clip, clip.captions, plan, batch=1, seed=seed, report=report)[0]
    except (GenerationError, SamplingError) as error:
        return {**result, "finite": False, "error": str(error), "passed": False}
    truth = clip.frames[0]
    result |= describe_long(video, truth, settings.fps)
    result["passed"] = _is_alive(result)
    if out is not None:
        _write(out / "minute.png", clip, video, settings.fps)
    return result


def describe_long(video: Tensor, truth: Tensor, fps: int) -> dict[str, Any]:
    """Contrast and sharpness of each 10 s of a video (F,3,H,W) uint8 and of its truth, and how much of it is frozen.

    A frame is frozen if it repeats the one before it although the true picture moves.
    """
    step = WINDOW_SECONDS * fps
    starts = range(0, max(1, len(video) - 1), step)
    spans = [slice(start, min(start + step, len(video))) for start in starts]
    result: dict[str, Any] = {}
    for name, frames in (("generated", video), ("truth", truth)):
        contrast, sharp = frame_std(frames), sharpness(frames)
        result[name] = {
            "std": [float(contrast[span].mean()) for span in spans],
            "sharpness": [float(sharp[span].mean()) for span in spans],
        }
    still, moving = changes(video) < FROZEN_BELOW, changes(truth) >= FROZEN_BELOW
    result["frozen_fraction"] = float((still & moving).sum() / moving.sum().clamp_min(1))
    result["truth_still_fraction"] = float((~moving).double().mean()) if len(moving) else 0.0
    return result


def frame_std(frames: Tensor) -> Tensor:
    """(F,) standard deviation of each frame of (F,3,H,W) uint8, in levels of 255."""
    return torch.stack([frame.float().std() for frame in frames])


def changes(frames: Tensor) -> Tensor:
    """(F-1,) mean absolute difference of each frame of (F,3,H,W) uint8 from the one before it, in levels of 255."""
    values = [(after.float() - before.float()).abs().mean() for before, after in pairwise(frames)]
    return torch.stack(values) if values else torch.zeros(0, device=frames.device)


def _is_alive(result: dict[str, Any]) -> bool:
    made = result["generated"]
    contrast = min(made["std"]) >= LEAST_STD * made["std"][0] > 0
    sharp = min(made["sharpness"]) >= LEAST_SHARPNESS * made["sharpness"][0] > 0
    return contrast and sharp and result["frozen_fraction"] <= MOST_FROZEN


def _write(path: Path, clip: HeldOut, video: Tensor, fps: int) -> None:
    chosen = torch.linspace(0, len(video) - 1, min(SHEET_FRAMES, len(video))).round().long()
    blocks = []
    for number, group in enumerate(chosen.split(SHEET_COLUMNS)):
        at = group.to(video.device)
        title = f"{clip.names[0]}: {clip.captions[0]}" if number == 0 else ""
        labels = [f"frame {i}, {i / fps:.1f} s" for i in group.tolist()]
        blocks.append((title, labels, [("truth", clip.frames[0][at]), ("generated", video[at])]))
    write_sheet(path, blocks)
