"""What a crowd of bad guests costs the good ones: python benchmarks/serving_load.py --minutes 5

Starts `sana-wm serve` and has many clients connect, vanish in the middle of a chunk, send garbage or megabytes, and
read slowly, while a few good ones walk. Prints the memory of the server, whether all sessions were freed and how soon,
the good guests' chunk times against those without the crowd, and the delay from an event to the first frame that obeys.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

GONE = (WebSocketException, OSError, asyncio.TimeoutError)


async def begin(url: str, pace: str) -> ClientConnection:
    """A guest in a world of the example."""
    socket = await connect(url, max_size=None, open_timeout=60)
    await socket.send(json.dumps({"type": "init", "pace": pace}))
    await hear(socket, "ready")
    return socket


async def hear(socket: ClientConnection, kind: str, seconds: float = 600) -> tuple[dict[str, Any], float]:
    """The next message of a kind, and when it came."""
    while True:
        message = await asyncio.wait_for(socket.recv(), seconds)
        if isinstance(message, bytes):
            size = int.from_bytes(message[:4], "big")
            found = json.loads(message[4 : 4 + size])
        else:
            found = json.loads(message)
        if found["type"] == kind:
            return found, time.monotonic()


async def walk(url: str, ends: float, times: list[float], delays: list[float]) -> None:
    """A good guest: chunk after chunk; notes the time of each and the delay of the first frame."""
    socket = await begin(url, "step")
    async with socket:
        number = 0
        while time.monotonic() < ends:
            number += 1
            asked, keys = time.monotonic(), random.choice(["w", "wd", "a"])
            await socket.send(json.dumps({"type": "event", "camera_actions": keys, "seq": number}))
            batch, came = await hear(socket, "frame_batch")
            while batch.get("seq") != number:
                batch, came = await hear(socket, "frame_batch")
            stats, _ = await hear(socket, "chunk_stats")
            times.append(stats["seconds"]["denoise"] + stats["seconds"]["decode"])
            delays.append(came - asked)


async def disturb(url: str, ends: float, counts: dict[str, int]) -> None:
    """A bad guest, again and again, each time in another way."""
    while time.monotonic() < ends:
        way = random.choice(["drop", "garbage", "megabyte", "slow", "silent"])
        counts[way] = counts.get(way, 0) + 1
        with contextlib.suppress(*GONE):
            async with contextlib.AsyncExitStack() as stack:
                socket = await connect(url, max_size=None, max_queue=1)
                stack.callback(socket.transport.abort)
                if way == "garbage":
                    for _ in range(30):
                        garbage: list[str | bytes] = [random.randbytes(200), '{"type": "event", "x": [']
                        await socket.send(random.choice(garbage))
                elif way == "silent":
                    await asyncio.sleep(2)
                else:
                    await socket.send(json.dumps({"type": "init", "pace": "live"}))
                    await hear(socket, "ready", 20)
                    await socket.send(json.dumps({"type": "event", "camera_actions": "w"}))
                    if way == "megabyte":
                        await socket.send(json.dumps({"type": "event", "camera_actions": "w" * 2**20}))
                    await asyncio.sleep(8 if way == "slow" else random.random())
        await asyncio.sleep(random.random())


def measure(name: str, url: str) -> float:
    """A number of /metrics."""
    text = urlopen(url + "metrics", timeout=30).read().decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def memory(pid: int) -> float:
    """MiB that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def summary(values: list[float]) -> dict[str, float]:
    if not values:
        return {"n": 0}
    middle, worst = np.percentile(values, (50, 99)).tolist()
    return {"n": len(values), "p50": round(middle, 3), "p99": round(worst, 3)}


async def crowd(url: str, pid: int, minutes: float, good: int, bad: int) -> dict[str, Any]:
    """Both phases, one after the other."""
    world = url.replace("http", "ws", 1) + "v1/world"
    found: dict[str, Any] = {}
    for phase, guests in (("alone", 0), ("crowd", bad)):
        ends = time.monotonic() + 60 * minutes / (4 if phase == "alone" else 1)
        times: list[float] = []
        delays: list[float] = []
        counts: dict[str, int] = {}
        walkers = [walk(world, ends, times, delays) for _ in range(good)]
        tasks = [asyncio.create_task(one) for one in (*walkers, *(disturb(world, ends, counts) for _ in range(guests)))]
        sizes = [memory(pid)]
        while not all(task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=5)
            sizes.append(memory(pid))
        failed = [repr(task.exception()) for task in tasks if task.exception() is not None]
        over = time.monotonic()
        while await asyncio.to_thread(measure, "sana_wm_connections", url) > 0 and time.monotonic() < over + 60:
            await asyncio.sleep(0.02)
        found[phase] = {
            "chunk_seconds": summary(times), "key_to_first_frame": summary(delays), "guests": counts, "failed": failed,
            "memory_mib": {"begin": round(sizes[0]), "most": round(max(sizes)), "end": round(memory(pid))},
            "all_free_after_seconds": round(time.monotonic() - over, 3),
            "connections_left": await asyncio.to_thread(measure, "sana_wm_connections", url),
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--good", type=int, default=1)
    parser.add_argument("--bad", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--step", default="4")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    command = ["-m", "sana_wm.cli.main", "serve", "--port", "0", "--model", given.model, "--step", given.step]
    command += ["--sessions", str(given.sessions), "--waiting", "100", "--max_chunks", "100000"]
    server = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        found = asyncio.run(crowd(url, server.pid, given.minutes, given.good, given.bad))
        if found["alone"]["chunk_seconds"]["n"] and found["crowd"]["chunk_seconds"]["n"]:
            alone, crowded = (found[phase]["chunk_seconds"]["p99"] for phase in ("alone", "crowd"))
            found["p99_ratio"] = round(crowded / alone, 2)
        text = json.dumps({**vars(given), "out": None, **found}, indent=1)
        print(text)
        if given.out:
            given.out.write_text(text + "\n")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


if __name__ == "__main__":
    main()
