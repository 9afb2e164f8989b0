"""Nano's marks: how well a world model keeps to a first frame and a camera path it has never seen."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sana_wm.checkpoints.components import Components
from sana_wm.engine.progress import Progress, StageClock
from sana_wm.engine.sidecar import versions
from sana_wm.engine.stream_plan import VideoPlan, plan_video
from sana_wm.errors import InputError
from sana_wm.evaluation.batched import round_trip
from sana_wm.evaluation.clip_measures import PSNR_CAP, ClipVideos, compare, sheet_times
from sana_wm.evaluation.generate import generate, steps_of
from sana_wm.evaluation.held_out import FREEDOOM, PROCEDURAL, WORLDS, HeldOut, held_out, mirrored_frames
from sana_wm.evaluation.marks import aggregate, judge
from sana_wm.evaluation.minute import MINUTE_FRAMES, measure_minute
from sana_wm.evaluation.sheets import write_sheet
from sana_wm.models.config import StreamSettings
from sana_wm.worlds.procedural import Renderer

PARTS = ("ae", "follow", "control", "text", "minute")
NUM_FRAMES = 81
SHEET_SCENES, SCENES_A_SHEET = 12, 3


def measure(
    components: Components,
    device: torch.device | str,
    *,
    scenes: int = 64,
    split: str = "test",
    worlds: Sequence[str] = WORLDS,
    parts: Sequence[str] = PARTS,
    num_inference_steps: int | None = None,
    num_frames: int = NUM_FRAMES,
    minute_frames: int = MINUTE_FRAMES,
    batch: int | None = None,
    workers: int = 0,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a model that lies on `device`; the result is ready for JSON and for `marks.markdown`.

    Args:
        scenes: held-out clips, spread evenly over `worlds`.
        parts: which of :data:`PARTS` to measure.
        num_inference_steps: None is the model's own.
        batch: clips at a time; None is 32 on CUDA and 2 elsewhere.
        workers: processes that walk through Freedoom beside this one.
        out: an existing folder for contact sheets; None draws none.

    Raises:
        InputError: an argument is out of range, or vizdoom is missing.
        GenerationError, SamplingError: the model made something that is no video.
    """
    device = torch.device(device)
    _check(scenes, parts, worlds, num_frames)
    if seed < 0 or (batch is not None and batch < 1):
        raise InputError(f"seed is {seed} and batch {batch}; seed must be at least 0, batch at least 1.")
    batch = batch or (32 if device.type == "cuda" else 2)
    settings = components.settings
    plan = plan_video(settings, num_inference_steps)
    clock, renderer = StageClock(progress), Renderer()
    measured: list[dict[str, float]] = []
    clips: HeldOut | None = None
    if set(parts) != {"minute"}:
        counts = {world: len(range(i, scenes, len(worlds))) for i, world in enumerate(worlds)}
        size = (settings.height, settings.width)
        with clock.stage("render", scenes) as report:
            clips = held_out(
                split, counts, num_frames, size,
                device=device, renderer=renderer, seed=seed, workers=workers, report=report,
            )  # fmt: skip
        measured = _measure_clips(components, clips, plan, parts, renderer, batch, seed, out, clock)
    minute = None
    if "minute" in parts:
        with clock.stage("minute", steps_of(plan)) as report:
            minute = measure_minute(
                components, device, plan,
                split=split, num_frames=minute_frames, renderer=renderer, seed=seed, out=out, report=report,
            )  # fmt: skip
    aggregated = aggregate(clips.worlds if clips else [], measured)
    return {
        "format": "sana-wm nano marks",
        "version": 1,
        "environment": environment(device),
        "settings": {
            "split": split, "scenes": scenes, "worlds": list(worlds), "parts": list(parts), "num_frames": num_frames,
            "height": settings.height, "width": settings.width, "fps": settings.fps,
            "in_chunks": isinstance(plan, StreamSettings), "plan": asdict(plan), "seed": seed, "batch": batch,
            "psnr_cap": PSNR_CAP,
            "transformer_dtype": "bfloat16" if device.type == "cuda" else str(components.transformer.dtype)[6:],
        },
        "marks": judge(aggregated, minute),
        "aggregate": aggregated,
        "minute": minute,
        "scenes": _scenes(clips, measured),
        "seconds": {stage: round(seconds, 2) for stage, seconds in clock.seconds.items()},
    }  # fmt: skip


def environment(device: torch.device) -> dict[str, str]:
    """Where something was measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"
    return {"device": device.type, "device_name": name, **versions()}


def _check(scenes: int, parts: Sequence[str], worlds: Sequence[str], num_frames: int) -> None:
    for name, values, known in (("parts", parts, PARTS), ("worlds", worlds, WORLDS)):
        if not values or set(values) - set(known) or len(set(values)) != len(values):
            raise InputError(f"{name} is {list(values)}; it must name some of {', '.join(known)}, each once.")
    if scenes < 2 * len(worlds):
        raise InputError(f"scenes is {scenes}; it must be at least two for each of {', '.join(worlds)}.")
    if num_frames < 17 or num_frames % 8 != 1:
        raise InputError(f"num_frames is {num_frames}; it must be 8k + 1 and at least 17.")


def _measure_clips(
    components: Components,
    clips: HeldOut,
    plan: VideoPlan,
    parts: Sequence[str],
    renderer: Renderer,
    batch: int,
    seed: int,
    out: Path | None,
    clock: StageClock,
) -> list[dict[str, float]]:
    numbers: list[dict[str, float]] = [{} for _ in range(len(clips))]
    work = len(clips) * steps_of(plan)
    rebuilt: Tensor | None = None
    if {"ae", "follow", "control"} & set(parts) or out is not None:
        with clock.stage("autoencoder", len(clips)) as report:
            rebuilt = round_trip(components.codec, clips.frames, min(batch, 8), report)
    mirrored: Tensor | None = None
    if {"control", "text"} & set(parts) and clips.drawn:
        with clock.stage("mirror", 1):
            mirrored = mirrored_frames(clips, renderer)
    made: Tensor | None = None
    shuffled: Tensor | None = None
    if {"follow", "control", "text"} & set(parts):
        with clock.stage("generate", work) as report:
            made = generate(components, clips, clips.captions, plan, batch=batch, seed=seed, report=report)
    if "text" in parts:
        prompts = [clips.captions[i] for i in shuffled_order(len(clips), seed)]
        with clock.stage("shuffled", work) as report:
            shuffled = generate(components, clips, prompts, plan, batch=batch, seed=seed, report=report)
    with clock.stage("compare", len(clips)) as report:
        for index, truth in enumerate(clips.frames):
            videos = ClipVideos(
                truth,
                rebuilt=None if rebuilt is None else rebuilt[index],
                made=None if made is None else made[index],
                shuffled=None if shuffled is None else shuffled[index],
                mirrored=mirrored[index] if mirrored is not None and index < len(mirrored) else None,
            )
            numbers[index] = compare(videos, parts)
            report(index + 1)
    if out is not None and rebuilt is not None:
        with clock.stage("sheets", 1):
            _write_sheets(out, clips, rebuilt, made)
    return numbers


def shuffled_order(count: int, seed: int) -> list[int]:
    """For each of `count` clips the clip whose prompt it gets: one cycle, so nobody keeps its own."""
    cycle = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    order = [0] * count
    for here, there in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        order[here] = there
    return order


def _scenes(clips: HeldOut | None, measured: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    if clips is None:
        return []
    described = zip(clips.names, clips.worlds, clips.captions, measured, strict=True)
    return [{"name": n, "world": w, "caption": c, "numbers": numbers} for n, w, c, numbers in described]


def _write_sheets(out: Path, clips: HeldOut, rebuilt: Tensor, made: Tensor | None) -> None:
    """sheet_<world>_<n>.png: some clips of each world, true, through the autoencoder, and generated."""
    times = sheet_times(clips.frames.shape[1], clips.frames.device)
    labels = [f"frame {time}" for time in times.tolist()]
    present = [world for world in (PROCEDURAL, FREEDOOM) if world in clips.worlds]
    for world in present:
        members = [i for i, of in enumerate(clips.worlds) if of == world][: SHEET_SCENES // len(present)]
        for number, start in enumerate(range(0, len(members), SCENES_A_SHEET), start=1):
            blocks = []
            for i in members[start : start + SCENES_A_SHEET]:
                rows = [("truth", clips.frames[i][times]), ("round trip", rebuilt[i][times])]
                if made is not None:
                    rows.append(("generated", made[i][times]))
                blocks.append((f"{clips.names[i]}: {clips.captions[i]}", labels, rows))
            write_sheet(out / f"sheet_{world}_{number}.png", blocks)
