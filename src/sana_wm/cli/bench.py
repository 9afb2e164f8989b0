"""`sana-wm bench`: how fast a model is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sana_wm.errors import InputError

bench = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)


@bench.callback()
def _verbs() -> None:
    """Measure speed on this machine."""


@bench.command("forward")
def forward(
    preset: Annotated[str, typer.Option("--preset", help="2.6b or nano, with random weights.")] = "nano",
    latent_frames: Annotated[
        str, typer.Option("--latent_frames", help="Lengths with commas; 11 are 81 frames, 121 are a minute.")
    ] = "11",
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes with commas; 2 is a guided step.")] = "1",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Timed passes, after two that warm up.")] = 5,
    plain: Annotated[bool, typer.Option("--plain/--no_plain", help="Time the plain twins in the same run.")] = True,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file for the numbers.")] = None,
) -> None:
    """Time one forward pass of the transformer: median, 90th percentile, memory, parts, and against the plain twins."""
    import json

    import torch

    from sana_wm.engine.devices import choose_device
    from sana_wm.evaluation.forward_speed import GRIDS, Shape, bench_forward

    chosen = choose_device(device)
    if preset not in GRIDS:
        raise InputError(f"--preset is {preset!r}; it must be one of {', '.join(GRIDS)}.")
    lengths, batches = _numbers("--latent_frames", latent_frames), _numbers("--batch", batch)
    shapes = [Shape(length, GRIDS[preset], size) for size in batches for length in lengths]
    dtype = torch.bfloat16 if chosen.type == "cuda" else torch.float32
    found = bench_forward(preset, shapes, chosen, dtype, runs=runs, plain=plain, report=lambda r: typer.echo(_line(r)))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        typer.echo(f"the numbers are in {out}")


def _numbers(name: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{name} is {text!r}; it must be whole numbers with commas between them.") from error
    if min(numbers) < 1:
        raise InputError(f"{name} is {text!r}; every number must be at least 1.")
    return numbers


def _line(found: dict[str, Any]) -> str:
    name = f"T={found['latent_frames']} batch={found['batch']}"
    if found.get("out_of_memory"):
        return f"{name}: does not fit into the device's memory"
    line = f"{name}: {found['seconds']:.3f} s (90 %: {found['p90_seconds']:.3f}, first {found['first_seconds']:.1f})"
    if found["peak_gb"] is not None:
        line += f", {found['peak_gb']:.1f} GB"
    if "plain" in found:
        line += f"; plain {found['plain']['seconds']:.3f} s, {found['speed_up']:.2f} times"
        line += f", apart by {found['relative_rms']:.1e}"
    if "parts" in found:
        line += "\n  " + ", ".join(f"{part} {1e3 * seconds:.0f} ms" for part, seconds in found["parts"].items())
    return line
