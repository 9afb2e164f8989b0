"""What streaming costs in quality: the same held-out clips seen whole, chunk by chunk, and in few steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sana_wm.checkpoints.components import Components
from sana_wm.engine.progress import Progress, StageClock
from sana_wm.engine.sampling_plan import SamplingPlan
from sana_wm.engine.stream_plan import VideoPlan, plan_stream
from sana_wm.errors import InputError
from sana_wm.evaluation.batched import round_trip
from sana_wm.evaluation.chunked import fewer_timesteps
from sana_wm.evaluation.clip_measures import ClipVideos, compare, sheet_times
from sana_wm.evaluation.generate import generate, steps_of
from sana_wm.evaluation.held_out import HeldOut, held_out
from sana_wm.evaluation.marks import TOGETHER, aggregate
from sana_wm.evaluation.nano_marks import environment
from sana_wm.evaluation.sheets import write_sheet
from sana_wm.models.config import StreamSettings
from sana_wm.worlds.procedural import Renderer

SHEET_SCENES = 4
Solver = Literal["renoise", "euler"]


@dataclass(frozen=True)
class Mode:
    """One way to make the clips.

    Attributes:
        name: what a table calls it. model: where its weights come from.
    """

    name: str
    model: str
    plan: VideoPlan

    @property
    def calls(self) -> int:
        """Network calls a chunk, or a clip that is seen whole; the one that writes the past is one of them."""
        return steps_of(self.plan) + isinstance(self.plan, StreamSettings)


def whole_mode(model: str, components: Components) -> Mode:
    """The model sees whole clips, in as many steps as its settings say."""
    plan = SamplingPlan.of(components.settings)
    return Mode(f"whole clips, {plan.num_inference_steps} steps", model, plan)


def chunk_modes(model: str, components: Components, steps: int, windows: Sequence[int] = (0, 2)) -> list[Mode]:
    """The model makes chunk after chunk in Euler steps of its flow shift; with a window also with the sink.

    Raises:
        InputError: the model says nothing of chunks.
    """
    plan = _stream_of(model, components, steps)
    modes = []
    for window in windows:
        chunks = replace(plan.chunks, window=window, sink=window > 0)
        sees = f"window {window} and sink" if window else "all chunks"
        name = f"chunk after chunk, {steps} steps, {sees}"
        modes.append(Mode(name, model, replace(plan, chunks=chunks, sampler="euler")))
    return modes


def student_modes(
    model: str,
    components: Components,
    steps: Sequence[int] = (4, 2, 1),
    solvers: Sequence[Solver] = ("renoise", "euler"),
) -> list[Mode]:
    """A distilled student in fewer and fewer of its steps, with both ways to go on from one to the next.

    Raises:
        InputError: the model is no student, or cannot take that many steps.
    """
    stream = _stream_of(model, components)
    modes = []
    for count in steps:
        timesteps = fewer_timesteps(stream.timesteps, count)
        for solver in solvers if count > 1 else solvers[:1]:  # one step has nothing to go on to
            name = f"student, {count} steps, {solver}" if count > 1 else "student, 1 step"
            modes.append(Mode(name, model, replace(stream, timesteps=timesteps, sampler=solver)))
    return modes


def measure_modes(
    modes: Sequence[Mode],
    models: Mapping[str, Components],
    device: torch.device,
    *,
    counts: dict[str, int],
    split: str = "test",
    num_frames: int = 81,
    batch: int = 32,
    workers: int = 0,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every mode on the same clips from the same noise; ready for JSON and for :func:`markdown`.

    Args:
        models: what the modes name; all on `device`, with one size of picture.
        counts: held-out clips of each world. workers: processes that walk through Freedoom beside this one.
        out: an existing folder for a contact sheet; None draws none.

    Raises:
        InputError: models of different picture sizes, or an argument that `held_out` refuses.
    """
    sizes = {(c.settings.height, c.settings.width) for c in models.values()}
    if len(sizes) != 1:
        raise InputError(f"the models make pictures of the sizes {sorted(sizes)}; they must agree")
    clock, renderer = StageClock(progress), Renderer()
    with clock.stage("render", sum(counts.values())) as report:
        clips = held_out(
            split, counts, num_frames, sizes.pop(),
            device=device, renderer=renderer, seed=seed, workers=workers, report=report,
        )  # fmt: skip
    made: dict[str, Tensor] = {}
    found: dict[str, dict[str, Any]] = {}
    rebuilt: dict[int, Tensor] = {}  # by codec: most models share one
    for mode in modes:
        components = models[mode.model]
        codec = components.codec
        if id(codec) not in rebuilt:
            rebuilt[id(codec)] = round_trip(codec, clips.frames, min(batch, 8))
        begin = time.perf_counter()
        with clock.stage(mode.name, len(clips) * steps_of(mode.plan)) as report:
            made[mode.name] = generate(
                components, clips, clips.captions, mode.plan, batch=batch, seed=seed, report=report
            )
        seconds = time.perf_counter() - begin
        truths = zip(clips.frames, rebuilt[id(codec)], made[mode.name], strict=True)
        numbers = [compare(ClipVideos(truth, rebuilt=again, made=video), ("follow",)) for truth, again, video in truths]
        found[mode.name] = {
            "model": mode.model, "in_chunks": isinstance(mode.plan, StreamSettings), "plan": asdict(mode.plan),
            "calls": mode.calls,
            "seconds_a_clip": seconds / len(clips), "aggregate": aggregate(clips.worlds, numbers), "scenes": numbers,
        }  # fmt: skip
    if out is not None:
        _write_sheet(out / "streaming.png", clips, made)
    return {
        "format": "sana-wm streaming marks",
        "version": 1,
        "environment": environment(device),
        "settings": {"split": split, "counts": counts, "num_frames": num_frames, "seed": seed, "batch": batch},
        "clips": clips.names,
        "modes": found,
        "seconds": {stage: round(seconds, 2) for stage, seconds in clock.seconds.items()},
    }


def markdown(result: Mapping[str, Any]) -> str:
    """One row a mode: PSNR against the truth in each span of frames, and its loss to the first mode of the table."""
    modes: Mapping[str, Any] = result["modes"]
    first = next(iter(modes.values()))
    spans = [name for name in first["aggregate"][TOGETHER] if name.endswith(".generated")]
    labels = [name.removeprefix("follow.").removesuffix(".generated") for name in spans]
    where = result["environment"]["device_name"]
    lines = [f"{len(result['clips'])} held-out clips, split {result['settings']['split']}, {where}; PSNR in dB", ""]
    heads = ["mode", "calls", "s a clip", *(f"frames {label}" for label in labels), "sharpness"]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, mode in modes.items():
        cells = [name, str(mode["calls"]), f"{mode['seconds_a_clip']:.2f}"]
        for span in spans:
            ours = mode["aggregate"][TOGETHER][span]["mean"]
            change = ours - first["aggregate"][TOGETHER][span]["mean"]
            cells.append(f"{ours:.2f}" if mode is first else f"{ours:.2f} ({change:+.2f})")
        cells.append(f"{mode['aggregate'][TOGETHER]['follow.sharpness_ratio']['mean']:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    repeat = [first["aggregate"][TOGETHER][span.replace("generated", "repeat")]["mean"] for span in spans]
    lines.append("| " + " | ".join(["first frame repeated", "", "", *(f"{x:.2f}" for x in repeat), ""]) + " |")
    return "\n".join(lines)


def _stream_of(model: str, components: Components, steps: int | None = None) -> StreamSettings:
    if components.settings.stream is None:
        raise InputError(f"{model} says nothing of chunks (pipeline.stream of its recipe); it cannot be streamed")
    return plan_stream(components.settings, steps)


def _write_sheet(path: Path, clips: HeldOut, made: Mapping[str, Tensor]) -> None:
    times = sheet_times(clips.frames.shape[1], clips.frames.device)
    labels = [f"frame {time}" for time in times.tolist()]
    step = max(1, len(clips) // SHEET_SCENES)
    blocks = []
    for index in range(0, len(clips), step):
        rows = [("truth", clips.frames[index][times])]
        rows += [(name, videos[index][times]) for name, videos in made.items()]
        blocks.append((f"{clips.names[index]}: {clips.captions[index]}", labels, rows))
    write_sheet(path, blocks[:SHEET_SCENES])
