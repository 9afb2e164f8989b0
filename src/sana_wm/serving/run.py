"""Serving until somebody stops it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from functools import partial

import uvicorn
from starlette.applications import Starlette

from sana_wm.errors import InputError
from sana_wm.serving.limits import Limits
from sana_wm.serving.sockets import GuestRequests, GuestSocket

GOODBYE_SECONDS = 3


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for guests; port 0 takes a free one.

    Raises:
        InputError: the address cannot be used.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port is {port}; it must be from 0 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(f"host {host}, port {port} cannot be listened on ({error.strerror or error}).") from error
    return listener


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address(listener: socket.socket) -> str:
    """What one types into a browser."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"


def make_server(app: Starlette, limits: Limits, log_level: str = "warning") -> uvicorn.Server:
    """The server for an application; `run(sockets=[...])` it, `should_exit` stops it."""
    config = uvicorn.Config(
        app,
        log_level=log_level,
        http=partial(GuestRequests, limits=limits),  # type: ignore[arg-type]
        ws=GuestSocket,
        ws_max_size=limits.first_message_bytes,
        ws_per_message_deflate=False,  # pictures do not get smaller, and a small message stays small when unpacked
        ws_ping_interval=10.0,
        ws_ping_timeout=20.0,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
    return uvicorn.Server(config)


def serve(app: Starlette, limits: Limits, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until the process is interrupted; `ready` is called once guests can come."""
    server = make_server(app, limits)
    listener.setblocking(False)
    ready()
    server.run(sockets=[listener])
