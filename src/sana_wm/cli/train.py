"""`sana-wm train`: run a training recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        str, typer.Argument(help="A packaged recipe (nano, nano-causal, nano-ode, nano-forcing) or a YAML file.")
    ] = "nano",
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Checkpoints, logs and the finished model.")] = Path(
        "runs/nano"
    ),
    init: Annotated[
        str | None,
        typer.Option("--init", help="A trained model directory (or nano) whose weights to start from."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that prepare data, for each GPU; 0 for none.")
    ] = 2,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.0, help="Stop and save after this long.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, e.g. --set world.optimizer.steps=100.")
    ] = None,
) -> None:
    """Train a model, or go on where an earlier run in the same directory stopped.

    Several GPUs of one host: torchrun --nproc_per_node 2 -m sana_wm.cli.main train ...
    """
    from sana_wm.engine.devices import choose_device
    from sana_wm.training.distil import distil
    from sana_wm.training.distill_recipe import DistillRecipe, load_any_recipe
    from sana_wm.training.parallel import joined, local_device
    from sana_wm.training.progress import Stop
    from sana_wm.training.train import train as run

    stop = Stop(None if minutes is None else time.monotonic() + 60 * minutes)
    settings = load_any_recipe(recipe, override)
    chosen = local_device(choose_device(device))
    with joined(chosen) as peers:
        if isinstance(settings, DistillRecipe):
            model = distil(settings, output_dir, device=chosen, stop=stop, workers=workers, init=init, peers=peers)
        else:
            model = run(settings, output_dir, device=chosen, stop=stop, workers=workers, init=init, peers=peers)
    if not peers.leads:
        return
    if model is None:
        typer.echo(f"stopped; run the same command again to go on from {output_dir}")
    else:
        typer.echo(f"the model is in {model}")
