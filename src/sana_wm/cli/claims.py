"""`sana-wm evaluate claims`: train what the paper's claims are about, measure it, write the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def claims(
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Runs and results; what is there already is not made again.")
    ] = Path("runs/claims"),
    page: Annotated[Path | None, typer.Option("--page", help="Markdown file to write from the results.")] = None,
    only: Annotated[
        str, typer.Option("--only", help="Claims to work on, with commas between them.")
    ] = "key_scale,schedule,camera,minute,state",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")] = "auto",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each variant.")] = 2,
    scenes: Annotated[int, typer.Option("--scenes", min=2, help="Held-out clips of 5 s to measure a variant on.")] = 32,
    long_scenes: Annotated[int, typer.Option("--long_scenes", min=1, help="Held-out clips of a minute.")] = 8,
    share: Annotated[
        str, typer.Option("--share", help="Work on part i of n, as in 1/2: for several GPUs, one process each.")
    ] = "1/1",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that draw scenes while training.")] = 2,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.0, help="Stop and save after this long.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting of every variant's recipe.")
    ] = None,
) -> None:
    """Train small models that differ in one thing, measure them on held-out scenes, and say which claims hold.

    It can be stopped at any time and goes on where it was. With results of every claim that --only names, --page writes
    them down.
    """
    import time

    from sana_wm.claims.jobs import Lab, plan, work
    from sana_wm.claims.page import read_results, write_page
    from sana_wm.claims.share import parse_share
    from sana_wm.engine.devices import choose_device
    from sana_wm.training.progress import Stop

    lab = Lab(
        output_dir,
        choose_device(device),
        scenes=scenes,
        long_scenes=long_scenes,
        workers=workers,
        overrides=tuple(override or ()),
        stop=Stop(None if minutes is None else time.monotonic() + 60 * minutes),
    )
    jobs = plan(tuple(only.split(",")), seeds, parse_share(share))
    finished = work(lab, jobs)
    if not finished:
        typer.echo(f"stopped; run the same command again to go on from {output_dir}")
    elif page is not None:
        write_page(page, read_results(output_dir))
        typer.echo(f"the page is {page}")
    else:
        typer.echo(f"the results are in {output_dir / 'results'}")
