"""`sana-wm serve`: live worlds for many people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sana_wm.cli.model_flags import DeviceFlag, DtypeFlag, ModelFlag
from sana_wm.errors import InputError

if TYPE_CHECKING:
    from sana_wm.engine.source import ModelSource
    from sana_wm.serving.limits import Limits

INSTALL = "serving needs more packages; install them with: pip install 'sana-wm[serve]'"

StepFlag = Annotated[
    int | None, typer.Option("--step", min=1, help="Denoising steps of a chunk.", show_default="the model's, or 4")
]
ChunkFlag = Annotated[
    int | None,
    typer.Option("--chunk", min=1, help="Latent frames of a chunk; few react soon.", show_default="the model's, or 1"),
]
HostFlag = Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for the whole network.")]
PortFlag = Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.")]
TokenFlag = Annotated[
    Path | None, typer.Option("--token_file", help="File whose first line guests must show; ?token=... in the page.")
]


def serve(
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    dtype: DtypeFlag = "auto",
    step: StepFlag = None,
    chunk: ChunkFlag = None,
    host: HostFlag = "127.0.0.1",
    port: PortFlag = 7860,
    token_file: TokenFlag = None,
    sessions: Annotated[int, typer.Option("--sessions", min=1, help="Worlds at a time.")] = 4,
    waiting: Annotated[int, typer.Option("--waiting", min=0, help="Guests who may wait for one.")] = 16,
    max_chunks: Annotated[int, typer.Option("--max_chunks", min=1, help="Chunks of one world.")] = 400,
    idle_seconds: Annotated[float, typer.Option("--idle_seconds", help="A session without a message ends.")] = 300.0,
    session_seconds: Annotated[float, typer.Option("--session_seconds", help="Any session ends.")] = 3600.0,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, help="Models, one a GPU, each with the limits above; 2 on through Ray.")
    ] = 1,
) -> None:
    """Serve live worlds: a page, a WebSocket, health and metrics (docs/serving.md)."""
    check_installed()
    from sana_wm.engine.source import ModelSource
    from sana_wm.serving.limits import Limits

    limits = Limits(
        sessions=sessions, waiting=waiting, chunks=max_chunks, idle_seconds=idle_seconds,
        session_seconds=session_seconds,
    )  # fmt: skip
    token, source = read_token(token_file), ModelSource.of(model, device, dtype)
    if replicas > 1:
        from sana_wm.serving.replicas.run import serve_replicas

        check_address(host, token)
        serve_replicas(
            source, step, chunk, host, port, token, limits, replicas,
            ready=lambda where: typer.echo(f"{where}  ({replicas} replicas, Ctrl+C ends it)"),
        )  # fmt: skip
        return
    run_server(source, step, chunk, host, port, token, limits, browser=False)


def check_installed() -> None:
    """Refuse to go on without the packages of the extra `serve`."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"{INSTALL} ({error.name} is missing).") from error


def read_token(path: Path | None) -> str | None:
    """The first line of the file, None without one.

    Raises:
        InputError: it cannot be read, or is shorter than eight characters.
    """
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"token file '{path}' cannot be read.") from error
    token = lines[0].strip() if lines else ""
    if len(token) < 8 or not token.isascii():
        raise InputError(f"token file '{path}' begins with no token; its first line must have 8 or more ASCII letters.")
    return token


def check_address(host: str, token: str | None) -> None:
    """Refuse to let others in without a token."""
    from sana_wm.serving.run import is_local

    if not is_local(host) and token is None:
        raise InputError(f"host is {host}, which others can reach; give a --token_file, or listen on 127.0.0.1.")


def run_server(
    source: ModelSource,
    step: int | None,
    chunk: int | None,
    host: str,
    port: int,
    token: str | None,
    limits: Limits,
    *,
    browser: bool,
) -> None:
    """Load the model and serve until the process is interrupted; `browser` opens the page."""
    import webbrowser

    from sana_wm.serving.app import create_app
    from sana_wm.serving.house import House
    from sana_wm.serving.live_plan import live_plan
    from sana_wm.serving.run import address, is_local, listen
    from sana_wm.serving.run import serve as serve_for_ever

    check_address(host, token)
    with listen(host, port) as listener:  # found out before anything large is loaded
        pipe = source.load()
        house = House(pipe, live_plan(pipe, step, chunk), limits, token)
        house.warm_up()
        where = address(listener)

        def ready() -> None:
            typer.echo(f"{where}  (Ctrl+C ends it)")
            if browser:
                webbrowser.open(where)

        serve_for_ever(create_app(house, local=is_local(host)), limits, listener, ready)
