"""How well a model follows the cameras of held-out procedural clips: pictures and recovered poses."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch import Tensor

from sana_wm.checkpoints.components import Components
from sana_wm.engine.stream_plan import plan_video
from sana_wm.evaluation.clip_measures import capped_psnr
from sana_wm.evaluation.engines import TrueViews, make_engine
from sana_wm.evaluation.generate import generate
from sana_wm.evaluation.held_out import PROCEDURAL, HeldOut, held_out
from sana_wm.evaluation.image import sharpness
from sana_wm.evaluation.pose_error import LEAST_REGISTERED, PoseErrors, path_length, pose_errors
from sana_wm.worlds.procedural import Renderer, render_drawn

INTERVAL = 4
"""Frames from one recovered pose to the next, as in the benchmark (spec 61 section 3.2)."""
ENGINE = "gt-pnp"


def measure_follow(
    components: Components,
    device: torch.device,
    *,
    scenes: int,
    num_frames: int,
    batch: int,
    renderer: Renderer,
    workers: int = 0,
    report: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Numbers of each of the first `scenes` procedural test clips; `report` gets the clips done.

    Poses are recovered in `workers` processes, or with 0 in this one.

    `psnr`: against the true render, mean over frames 1 on. `sharpness`: over that of the truth. `rot_err`, `trans_err`,
    `cam_mc` (spec 61 section 3.1) and `registered`: of poses recovered from the video; the errors are None where too
    few frames have one.
    """
    settings = components.settings
    size = (settings.height, settings.width)
    plan = plan_video(settings)
    found: list[dict[str, Any]] = []
    clips = held_out("test", {PROCEDURAL: scenes}, num_frames, size, device=device, renderer=renderer)
    made = generate(components, clips, clips.captions, plan, batch=batch)
    sampled = made[:, ::INTERVAL].cpu()
    views = (_true_views(clips, index, device, renderer) for index in range(len(made)))
    for index, errors in enumerate(_recover_all(sampled, views, workers)):
        video, truth = made[index], clips.frames[index]
        known = errors is not None and errors.registered >= LEAST_REGISTERED
        found.append(
            {
                "name": clips.names[index],
                "psnr": float(capped_psnr(video, truth)[1:].mean()),
                "sharpness": float(sharpness(video[1:]).mean() / sharpness(truth[1:]).mean()),
                "registered": 0.0 if errors is None else errors.registered,
                "rot_err": errors.rot_err if known and errors else None,
                "trans_err": errors.trans_err if known and errors else None,
                "cam_mc": errors.cam_mc if known and errors else None,
                "path_length": path_length(clips.c2w[index]),
            }
        )
        if report is not None:
            report(index + 1)
    return found


def _true_views(clips: HeldOut, index: int, device: torch.device, renderer: Renderer) -> TrueViews:
    drawn = clips.drawn[index]
    frames, c2w, intrinsics, depth = render_drawn([drawn], *clips.size, device, renderer, with_depth=True)
    assert depth is not None
    views = (x[0, ::INTERVAL].cpu() for x in (frames, depth, c2w, intrinsics))
    return TrueViews(*views)


def _recover_all(videos: Tensor, views: Iterable[TrueViews], workers: int) -> Iterator[PoseErrors | None]:
    if not workers:
        yield from map(_recover, videos, views)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(_recover, videos, views)


def _recover(frames: Tensor, truth: TrueViews) -> PoseErrors | None:
    """Errors of the poses recovered from frames (n,3,H,W), or None if no frame has one."""
    found = make_engine(ENGINE, truth=truth).estimate(frames, truth.intrinsics)
    if not found.valid.any():
        return None
    return pose_errors(truth.c2w, found.c2w, valid=found.valid)
