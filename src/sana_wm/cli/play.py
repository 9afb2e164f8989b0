"""`sana-wm play`: walk in a world, in a page on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sana_wm.cli.model_flags import DeviceFlag, DtypeFlag, ModelFlag
from sana_wm.cli.serve import (
    ChunkFlag,
    HostFlag,
    PortFlag,
    StepFlag,
    TokenFlag,
    check_installed,
    read_token,
    run_server,
)
from sana_wm.errors import InputError

if TYPE_CHECKING:
    from sana_wm.engine.source import ModelSource

A_DAY = 24 * 3600.0


def play(
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    dtype: DtypeFlag = "auto",
    step: StepFlag = None,
    chunk: ChunkFlag = None,
    host: HostFlag = "127.0.0.1",
    port: PortFlag = 7860,
    token_file: TokenFlag = None,
    browser: Annotated[bool, typer.Option("--browser/--no_browser", help="Open the page.")] = True,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="Instead: make a recorded walk (JSON) again, and compare.")
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder for the video of --replay.")] = Path("out"),
) -> None:
    """Open a page on this machine in which one walks through a world as it is made."""
    from sana_wm.engine.source import ModelSource

    source = ModelSource.of(model, device, dtype)
    if replay is not None:
        _replay(replay, output_dir, source)
        return
    check_installed()
    from sana_wm.serving.limits import Limits

    # One's own machine: a second tab, no hurry, and a phone in the same network if --host says so.
    limits = Limits(sessions=2, waiting=2, chunks=2000, kept_chunks=40, idle_seconds=A_DAY, session_seconds=A_DAY)
    run_server(source, step, chunk, host, port, read_token(token_file), limits, browser=browser)


def _replay(path: Path, output_dir: Path, source: ModelSource) -> None:
    """Make a walk again as `output_dir`/NAME.mp4; whether its frames are the same decides how it ends."""
    from sana_wm.engine.growing_mp4 import GrowingMp4
    from sana_wm.engine.staging import check_writable
    from sana_wm.serving.walk import chunk_hash, load_walk

    walk = load_walk(path)
    name = f"{path.stem}.mp4"
    check_writable(output_dir, [name])
    pipe = source.load()
    output_dir.mkdir(parents=True, exist_ok=True)
    apart = []
    with GrowingMp4(output_dir / name, pipe.settings.fps) as video:
        for number, (frames, step) in enumerate(zip(walk.replay(pipe), walk.steps, strict=True)):
            video.append(frames)
            if chunk_hash(frames) != step.sha256:
                apart.append(number)
            typer.echo(f"chunk {number}: {step.keys}, {'other frames' if number in apart else 'the same frames'}")
    typer.echo(f"  {output_dir / name}")
    if apart:
        raise InputError(
            f"the frames of chunk {apart[0]} and {len(apart) - 1} others are not those recorded; another model "
            f"({walk.model or 'unnamed'} made them), device, --dtype, number of threads or version gives others."
        )
