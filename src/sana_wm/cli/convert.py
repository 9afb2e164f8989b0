"""`sana-wm convert`: write a model directory in the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sana_wm.errors import InputError

RANDOM, PICKLED = "Random weights", "The published streaming checkpoint"


def convert(
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="The directory to write: new, or empty.", show_default=False)
    ] = None,
    shard_gb: Annotated[float, typer.Option("--shard_gb", help="Largest size of a file, in 10^9 bytes.")] = 4.0,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            help="bfloat16, float16 or float32. Otherwise random weights are bfloat16, others stay as they are.",
            show_default=False,
        ),
    ] = None,
    pickle: Annotated[
        Path | None,
        typer.Option(
            "--pickle",
            help="The checkpoint, a .pt file. It is read as weights alone: nothing in it is run.",
            show_default=False,
            rich_help_panel=PICKLED,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="The release's config.yaml for it, whose instruction stands before prompts.",
            show_default=False,
            rich_help_panel=PICKLED,
        ),
    ] = None,
    random: Annotated[
        bool,
        typer.Option(
            "--random", help="Draw the weights, for tests of loading, memory and speed.", rich_help_panel=RANDOM
        ),
    ] = False,
    preset: Annotated[
        str, typer.Option("--preset", help="Size: 2.6b, nano or tiny.", rich_help_panel=RANDOM)
    ] = "2.6b",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the weights.", rich_help_panel=RANDOM)] = 0,
) -> None:
    """Write a model directory in the published layout: of the published streaming checkpoint, which is a pickle
    (--pickle), or with random weights (--random)."""
    if random == (pickle is not None):
        raise InputError(
            "convert makes one of two things: give --pickle FILE for the published streaming checkpoint, or --random; "
            "published safetensors need no conversion, give them to generate --model"
        )
    if config is not None and pickle is None:
        raise InputError("--config says what a pickled checkpoint is; give --pickle as well, or leave it out.")
    if output_dir is None:
        raise InputError("--output_dir is missing; name the directory to write.")
    if pickle is not None:
        _convert_pickle(pickle, output_dir, config, dtype, shard_gb)
        return

    from sana_wm.checkpoints.random import save_random

    save_random(output_dir, preset, seed=seed, dtype=dtype or "bfloat16", shard_gb=shard_gb, progress=_say)
    typer.echo(f"{_size(output_dir)} with random weights; try sana-wm generate --model {output_dir}")


def _convert_pickle(pickle: Path, folder: Path, config: Path | None, dtype: str | None, shard_gb: float) -> None:
    from sana_wm.checkpoints.convert import convert_pickled

    published = convert_pickled(
        pickle,
        folder,
        config=config,
        dtype=dtype,
        shard_gb=shard_gb,
        progress=lambda done, total: _say("dit", done, total),
    )
    typer.echo(f"{_size(folder)} of weights; try sana-wm generate --stream --model {folder}")
    typer.echo(
        f"VAE and text encoder come from {published.vae_pretrained} ({published.vae_folder}) and "
        f"{published.text_encoder_repo}; folders {folder / 'vae'} and {folder / 'text_encoder'} go before them."
    )
    if not published.prefix:
        typer.echo("Nothing stands before prompts, as --config named no file with chi_prompt; the weights expect it.")


def _size(folder: Path) -> str:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}: " + (f"{size / 1e9:.1f} GB" if size > 1e9 else f"{size / 1e6:.1f} MB")


def _say(part: str, done: int, total: int) -> None:
    files = "1 file" if total == 1 else f"{total} files"
    typer.echo(f"{part}: drawing {files}" if done == 0 else f"{part}: {done} of {files} written")
