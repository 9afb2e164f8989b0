"""`sana-wm evaluate rollout`: stream a video for minutes and measure whether it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sana_wm.cli.evaluate_flags import MAKING, RUNNING, Device, Model, Seed
from sana_wm.cli.model_flags import DtypeFlag
from sana_wm.errors import InputError


def rollout(
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Folder for the results, one folder a model and number of steps.")
    ] = Path("out/rollout"),
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Length of the video; 10 is the mark.", show_default="1")
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="The length in seconds instead.")] = None,
    scenes: Annotated[int, typer.Option("--scenes", help="Held-out scenes, one video each.")] = 1,
    split: Annotated[str, typer.Option("--split", help="test or validation.")] = "test",
    keys: Annotated[
        str, typer.Option("--keys", help="random, or what is held: 'w', or 'w-80,dw-40' over and over.")
    ] = "random",
    model: Model = "nano",
    step: Annotated[
        int | None,
        typer.Option("--step", help="Denoising steps of a chunk.", show_default="the model's", rich_help_panel=MAKING),
    ] = None,
    seed: Seed = 42,
    device: Device = "auto",
    dtype: DtypeFlag = "auto",
    save_every: Annotated[
        int,
        typer.Option("--save_every", help="Chunks between saved worlds to go on from.", rich_help_panel=RUNNING),
    ] = 10,
) -> None:
    """Stream videos through held-out scenes, and measure every chunk: memory, time, freezing, greying out, burning in.

    The same command goes on where an earlier one stopped, and a longer one where a shorter one ended.
    """
    if minutes is not None and seconds is not None:
        raise InputError("--minutes and --seconds are both given; give one of them.")
    from sana_wm.checkpoints.load import find_model
    from sana_wm.cli.count_bars import CountBars
    from sana_wm.cli.evaluate import label
    from sana_wm.engine.sampling_plan import check_sampling
    from sana_wm.engine.source import ModelSource
    from sana_wm.engine.staging import check_writable
    from sana_wm.evaluation.long_rollout import RESULT, RolloutSettings, measure_rollouts
    from sana_wm.evaluation.rollout_marks import markdown
    from sana_wm.evaluation.rollout_scene import long_scene

    length = 60.0 * (1.0 if minutes is None else minutes) if seconds is None else seconds
    settings = RolloutSettings(length, scenes, split, step, seed, keys, save_every)
    check_sampling(step, None, None)
    source = ModelSource.of(model, device, dtype)
    find_model(model)
    long_scene(split, 0, 2, keys)
    out = output_dir / (label(model) if step is None else f"{label(model)}-{step}-steps")
    check_writable(out, [RESULT])
    pipe = source.load()
    with CountBars("chunks") as bars:
        result = measure_rollouts(pipe, settings, out, bars)
    typer.echo(markdown(result))
    for path in (*sorted(out.glob("sheet_*.png")), out / RESULT):
        typer.echo(f"  {path}")
