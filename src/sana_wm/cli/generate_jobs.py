"""`sana-wm generate --jobs`: a video for every line of a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sana_wm.errors import InputError

if TYPE_CHECKING:
    from sana_wm.engine.order import VideoOrder
    from sana_wm.engine.source import ModelSource


def check_jobs_flags(jobs: Path | None, replicas: int, *, stream: bool, name: str | None) -> None:
    """Refuse flags that do not go together.

    Raises:
        InputError: they do not.
    """
    if jobs is None and replicas > 1:
        raise InputError(f"--replicas is {replicas}, but there is one video; give --jobs as well.")
    if jobs is not None and stream:
        raise InputError("--jobs and --stream are both given; jobs are written when they are whole, so leave out one.")
    if jobs is not None and name is not None:
        raise InputError(f"--name is {name!r}, which is of one video; give the lines of --jobs names.")


def generate_jobs(
    path: Path, defaults: VideoOrder, source: ModelSource, output_dir: Path, replicas: int
) -> None:
    """Do the jobs of a file; `defaults` is what the command line says of every video.

    Raises:
        InputError: a line, the model, the device or the folder is wrong; nothing has been made.
        GenerationError: a job failed; all others are done.
    """
    from sana_wm.cli.count_bars import CountBars
    from sana_wm.engine.failure import GenerationError
    from sana_wm.engine.staging import check_writable
    from sana_wm.serving.batch.jobs_file import read_jobs
    from sana_wm.serving.batch.record import FILE
    from sana_wm.serving.batch.run import run_jobs
    from sana_wm.serving.batch.work import Studio

    begin = time.perf_counter()
    jobs = read_jobs(path, defaults)
    check_writable(output_dir, [FILE, *(file for job in jobs for file in job.files)])
    with CountBars("jobs") as bars:
        found = run_jobs(jobs, Studio(source, output_dir.resolve()), replicas, bars)
    typer.echo(
        f"{found.done} done, {found.kept} done before, {found.failed} failed; {output_dir / FILE} has a line for each"
    )
    typer.echo(f"{time.perf_counter() - begin:.1f} s in total")
    if found.failed:
        raise GenerationError(f"{found.failed} of {len(jobs)} jobs failed; the same command tries them again.")
