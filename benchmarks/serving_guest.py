"""What the measurements of a server share: one that runs, and a guest of it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from websockets.asyncio.client import ClientConnection, connect


@dataclass(frozen=True)
class Server:
    """A process that runs `sana-wm serve`."""

    url: str
    pid: int

    @property
    def world(self) -> str:
        return self.url.replace("http", "ws", 1) + "v1/world"

    def metric(self, name: str) -> float:
        """The sum of a number of /metrics over its labels."""
        text = urlopen(self.url + "metrics", timeout=60).read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    @property
    def memory(self) -> float:
        """MiB that it holds."""
        return self._status("VmRSS") / 1024

    @property
    def threads(self) -> int:
        return self._status("Threads")

    @property
    def files(self) -> int:
        """Open files and sockets."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


@contextmanager
def running(*options: str) -> Iterator[Server]:
    """A server on a free port, until it is not needed any more."""
    command = [sys.executable, "-m", "sana_wm.cli.main", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start")
        yield Server(line.split()[0], process.pid)
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


async def begin(server: Server, pace: str, **more: Any) -> tuple[ClientConnection, dict[str, Any]]:
    """A guest in a world of the example, and its `ready`."""
    socket = await connect(server.world, max_size=None, open_timeout=60, ping_interval=None)
    await socket.send(json.dumps({"type": "init", "pace": pace, **more}))
    return socket, (await hear(socket, "ready"))[0]


async def hear(socket: ClientConnection, *kinds: str, seconds: float = 600) -> tuple[dict[str, Any], float]:
    """The next message of one of these kinds, and when it came."""
    while True:
        message = await asyncio.wait_for(socket.recv(), seconds)
        came = time.monotonic()
        head = message[4 : 4 + int.from_bytes(message[:4], "big")] if isinstance(message, bytes) else message
        found: dict[str, Any] = json.loads(head)
        if found["type"] in kinds:
            return found, came


def summary(values: Sequence[float]) -> dict[str, float]:
    """How many, the middle, p99 and the most."""
    if not values:
        return {"n": 0}
    middle, late, worst = np.percentile(values, (50, 99, 100)).tolist()
    return {"n": len(values), "p50": round(middle, 3), "p99": round(late, 3), "most": round(worst, 3)}


def table(rows: Sequence[tuple[str, str, str, bool | None]]) -> str:
    """Markdown: what is measured, what came out, what it is to be, and whether it is."""
    said = {True: "pass", False: "FAIL", None: ""}
    lines = ["| measured | value | mark | |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {what} | {value} | {mark} | {said[holds]} |" for what, value, mark, holds in rows])
