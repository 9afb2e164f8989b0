"""`sana-wm convert`: write a model directory in the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sana_wm.errors import InputError


def convert(
    random: Annotated[
        bool, typer.Option("--random", help="Draw the weights, for tests of loading, memory and speed.")
    ] = False,
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="The directory to write: new, or empty.", show_default=False)
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="Size: 2.6b, nano or tiny.")] = "2.6b",
    shard_gb: Annotated[float, typer.Option("--shard_gb", help="Largest size of a file, in 10^9 bytes.")] = 4.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the weights.")] = 0,
    dtype: Annotated[str, typer.Option("--dtype", help="bfloat16, float16 or float32.")] = "bfloat16",
) -> None:
    """Write a model directory in the published layout. So far there is one kind: --random."""
    if not random:
        raise InputError(
            "convert can do one thing so far: with --random it writes a model directory with random weights; "
            "published safetensors need no conversion, give them to generate --model"
        )
    if output_dir is None:
        raise InputError("--output_dir is missing; name the directory to write.")

    from sana_wm.checkpoints.random import save_random

    save_random(output_dir, preset, seed=seed, dtype=dtype, shard_gb=shard_gb, progress=_say)
    size = sum(path.stat().st_size for path in output_dir.rglob("*") if path.is_file())
    amount = f"{size / 1e9:.1f} GB" if size > 1e9 else f"{size / 1e6:.1f} MB"
    typer.echo(f"{output_dir}: {amount} with random weights; try sana-wm generate --model {output_dir}")


def _say(part: str, done: int, total: int) -> None:
    files = "1 file" if total == 1 else f"{total} files"
    typer.echo(f"{part}: drawing {files}" if done == 0 else f"{part}: {done} of {files} written")
