"""`sana-wm bench`: how fast a model is on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sana_wm.cli.model_flags import DeviceFlag, DtypeFlag
from sana_wm.errors import InputError

if TYPE_CHECKING:
    from sana_wm.evaluation.speed import Shape

bench = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)

PresetFlag = Annotated[str, typer.Option("--preset", help="2.6b or nano, with random weights.")]
FramesFlag = Annotated[
    str, typer.Option("--latent_frames", help="Lengths with commas; 11 are 81 frames, 121 are a minute.")
]
BatchFlag = Annotated[str, typer.Option("--batch", help="Batch sizes with commas; 2 is a guided step.")]
RunsFlag = Annotated[int, typer.Option("--runs", min=1, help="Timed passes, after two that warm up.")]
PlainFlag = Annotated[bool, typer.Option("--plain/--no_plain", help="Time the plain twins in the same run.")]
OutFlag = Annotated[Path | None, typer.Option("--out", help="JSON file for the numbers.")]


@bench.callback()
def _verbs() -> None:
    """Measure speed on this machine."""


@bench.command("forward")
def forward(
    preset: PresetFlag = "nano",
    latent_frames: FramesFlag = "11",
    batch: BatchFlag = "1",
    device: DeviceFlag = "auto",
    runs: RunsFlag = 5,
    plain: PlainFlag = True,
    fp8: Annotated[
        bool, typer.Option("--fp8", help="Also with the large products in eight-bit floats, and their error.")
    ] = False,
    peak_tflops: Annotated[
        float, typer.Option("--peak_tflops", min=1.0, help="What the card multiplies at best; H100's bfloat16.")
    ] = 989.0,
    peak_tbs: Annotated[
        float, typer.Option("--peak_tbs", min=0.01, help="What its memory moves at best, TB/s; H100 SXM's.")
    ] = 3.35,
    out: OutFlag = None,
) -> None:
    """Time one forward pass of the transformer: median, 90th percentile, memory, parts, and against the plain twins.

    On a GPU every part stands beside its floor: the arithmetic and the memory traffic it cannot do without, at the
    card's peaks.
    """
    from sana_wm.engine.devices import choose_device, choose_dtype
    from sana_wm.evaluation.forward_floor import Peaks
    from sana_wm.evaluation.forward_speed import bench_forward

    chosen = choose_device(device)
    shapes = _shapes(preset, latent_frames, batch)
    dtype = choose_dtype("auto", chosen)
    found = bench_forward(
        preset, shapes, chosen, dtype, runs=runs, plain=plain, fp8=fp8,
        peaks=Peaks(1e12 * peak_tflops, 1e12 * peak_tbs), report=lambda r: typer.echo(forward_lines(r)),
    )  # fmt: skip
    _write(found, out)


@bench.command("train")
def train(
    preset: PresetFlag = "nano",
    latent_frames: FramesFlag = "11",
    batch: BatchFlag = "1",
    device: DeviceFlag = "auto",
    runs: RunsFlag = 5,
    plain: PlainFlag = True,
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            help="float32: master weights, bfloat16 autocast on a GPU, as `sana-wm train`. bfloat16: weights, gradients"
            " and moments.",
        ),
    ] = "float32",
    optimizer: Annotated[str, typer.Option("--optimizer", help="adamw, or muon for the hidden matrices.")] = "adamw",
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint/--no_checkpoint", help="Keep the input of each block, and run it twice.")
    ] = True,
    find_longest: Annotated[
        bool, typer.Option("--find_longest/--no_find_longest", help="Look for the longest clip that fits, too (CUDA).")
    ] = False,
    within: Annotated[int, typer.Option("--within", min=1, help="Latent frames to find it to.")] = 4,
    out: OutFlag = None,
) -> None:
    """Time one training step of the transformer: forward, backward, optimiser and moving average.

    The rate is zero: the work is the same, and weights that stay what they are let loss and gradients be compared with
    those of the plain twins.
    """
    import torch

    from sana_wm.engine.devices import choose_device
    from sana_wm.evaluation.speed import Shape
    from sana_wm.evaluation.train_speed import Step, bench_train
    from sana_wm.models.transformer import Block, SanaWMTransformer, checkpointed
    from sana_wm.training.recipe import OptimizerRecipe
    from sana_wm.training.transformer_step import TransformerStep

    chosen = choose_device(device)
    shapes = _shapes(preset, latent_frames, batch)
    cuda = chosen.type == "cuda"
    if weights not in ("float32", "bfloat16"):
        raise InputError(f"--weights is {weights!r}; it must be float32 or bfloat16.")
    if optimizer not in ("adamw", "muon"):
        raise InputError(f"--optimizer is {optimizer!r}; it must be adamw or muon.")
    if find_longest and (not cuda or len({shape.batch for shape in shapes}) > 1):
        raise InputError("--find_longest needs a CUDA device and one --batch.")
    recipe = OptimizerRecipe(
        steps=1, lr=0.0, warmup_steps=0, decay_steps=0, weight_decay=0.01, betas=(0.9, 0.99), grad_clip=1.0, ema=0.998,
        hidden="muon" if optimizer == "muon" else "adamw",
    )  # fmt: skip
    run_block = checkpointed() if checkpoint else Block.__call__

    def make(model: SanaWMTransformer) -> Step:
        return TransformerStep(model, recipe, run_block)

    settings = {
        "weights": weights, "autocast": "bfloat16" if cuda and weights == "float32" else None, "average": "float32",
        "optimizer": optimizer, "checkpoint": checkpoint,
    }  # fmt: skip
    typer.echo(", ".join(f"{name} {value}" for name, value in settings.items()))
    found = bench_train(
        preset, shapes, chosen, getattr(torch, weights), make, runs=runs, plain=plain,
        find_longest=Shape(1, shapes[0].grid, shapes[0].batch) if find_longest else None, within=within,
        report=lambda r: typer.echo(train_lines(r)),
    )  # fmt: skip
    found["step"] = settings
    if find_longest:
        longest, fails = found["longest"]["latent_frames"], found["longest"]["does_not_fit"]
        typer.echo(f"the longest clip has {longest} latent frames" + (f"; {fails} do not fit" if fails else ""))
    _write(found, out)


@bench.command("stream")
def stream(
    preset: PresetFlag = "nano",
    chunks: Annotated[int, typer.Option("--chunks", help="Chunks to make; the first two warm up.")] = 6,
    step: Annotated[
        int | None, typer.Option("--step", min=1, help="Denoising steps of a chunk.", show_default="the model's")
    ] = None,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Also make as many chunks with their stages side by side.")
    ] = False,
    device: DeviceFlag = "auto",
    dtype: DtypeFlag = "auto",
    out: OutFlag = None,
) -> None:
    """Time the stages of a chunk, and measure what a world that streams holds between two chunks."""
    from sana_wm.engine.devices import choose_device, choose_dtype
    from sana_wm.evaluation.stream_speed import bench_stream

    chosen = choose_device(device)
    numbers = choose_dtype(dtype, chosen)
    found = bench_stream(
        preset, chosen, numbers, chunks=chunks, steps=step, overlap=overlap,
        report=lambda r: typer.echo(stream_line(r)),
    )  # fmt: skip
    last = found["chunks"][-1]["state_bytes"]
    typer.echo("\n".join(f"  {part:20}{size / 2**20:10.2f} MiB" for part, size in last.items()))
    if found["overlap"] is not None:
        typer.echo(overlap_line(found["overlap"]))
    _write(found, out)


def stream_line(found: dict[str, Any]) -> str:
    """What is printed of one chunk."""
    stages = (f"{stage} {found[f'{stage}_seconds']:.3f} s" for stage in ("denoise", "decode", "remember"))
    line = f"chunk {found['chunk']}: {', '.join(stages)}, on all cores {found['cpu_seconds']:.3f} s"
    return line + f", state {found['state_bytes']['all'] / 2**20:.2f} MiB"


def overlap_line(found: dict[str, Any]) -> str:
    """What is printed of chunks whose stages run side by side."""
    line = f"side by side: a chunk every {found['p50_seconds']:.3f} s (p50; p99 {found['p99_seconds']:.3f} s)"
    line += f" of {found['chunks']}, {found['frames_per_second']:.1f} frames/s"
    return line + f", {found['times_real_time']:.2f} times real time"


def _shapes(preset: str, latent_frames: str, batch: str) -> list[Shape]:
    from sana_wm.evaluation.speed import GRIDS, Shape

    if preset not in GRIDS:
        raise InputError(f"--preset is {preset!r}; it must be one of {', '.join(GRIDS)}.")
    lengths, batches = _numbers("--latent_frames", latent_frames), _numbers("--batch", batch)
    return [Shape(length, GRIDS[preset], size) for size in batches for length in lengths]


def _numbers(name: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{name} is {text!r}; it must be whole numbers with commas between them.") from error
    if min(numbers) < 1:
        raise InputError(f"{name} is {text!r}; every number must be at least 1.")
    return numbers


def _write(found: dict[str, Any], out: Path | None) -> None:
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    typer.echo(f"the numbers are in {out}")


def forward_lines(found: dict[str, Any]) -> str:
    """What is printed of one shape of a forward pass."""
    line = _timing(found)
    if "relative_rms" in found:
        line += f", apart by {found['relative_rms']:.1e}"
    if "replayed" in found:
        line += f"; recorded and replayed {found['replayed']['seconds']:.4f} s"
    if "fp8" in found:
        error = found["fp8"]
        line += (
            f"; fp8, apart by {error['relative_rms']:.1e}, PSNR {error['psnr_mean_db']:.1f} dB,"
            f" of the worst frame {error['psnr_worst_frame_db']:.1f}"
        )
    if "floor" in found:
        line += _floor_table(found["floor"])
    return line


def train_lines(found: dict[str, Any]) -> str:
    """What is printed of one shape of a training step, or of one trial for the longest clip."""
    line = _timing(found)
    if "resident_gb" in found:
        line += f"; weights and optimiser {found['resident_gb']:.1f} GB"
    if "apart" in found:
        line += "; apart by " + ", ".join(f"{value:.1e} ({name})" for name, value in found["apart"].items())
    return line


def _timing(found: dict[str, Any]) -> str:
    name = f"T={found['latent_frames']} batch={found['batch']}"
    if found.get("out_of_memory"):
        return f"{name}: does not fit into the device's memory"
    if found.get("search"):
        return f"{name}: fits, {found['first_seconds']:.1f} s, {found['peak_gb']:.1f} GB"
    line = f"{name}: {found['seconds']:.3f} s (90 %: {found['p90_seconds']:.3f}, first {found['first_seconds']:.1f})"
    if found["peak_gb"] is not None:
        line += f", {found['peak_gb']:.1f} GB"
    if found.get("plain", {}).get("out_of_memory"):
        line += "; the plain twins do not fit into the device's memory"
    elif "plain" in found:
        line += f"; plain {found['plain']['seconds']:.3f} s, {found['speed_up']:.2f} times"
    return line


def _floor_table(floor: dict[str, Any]) -> str:
    """One line a part: device time, its floor, how many times that, and what the floor is made of."""
    lines = [f"\n  floor at {floor['peak_tflops']:g} TFLOP/s and {floor['peak_tbs']:g} TB/s"]
    for part, n in floor["parts"].items():
        times = "" if n["times_floor"] is None else f" {n['times_floor']:6.2f}x"
        lines.append(
            f"  {part:24}{1e3 * n['seconds']:9.1f} ms, floor {1e3 * n['floor_seconds']:9.1f} ms{times}"
            f"  ({n['tflop']:.2f} TFLOP, {n['gb']:.2f} GB)"
        )
    return "\n".join(lines)
