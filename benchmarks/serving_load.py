"""What a crowd of bad guests costs the good ones: python benchmarks/serving_load.py --minutes 10

Starts `sana-wm serve`. In rounds, a good guest first walks alone, then among 50 bad ones, who vanish in the middle of a
chunk, send garbage or megabytes, read slowly, say nothing, bring pictures that are too large, or stop in the middle of
a request; together they are there for so many minutes. Ends with JSON and a table of what is asked of the server: the
good guest's chunk times among them against those alone, how soon sessions are free, and what is left behind.

The guests run with low priority, as if on other machines; but on a machine of few cores they still cost time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import random
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from serving_guest import Server, begin, hear, running, summary, table

GONE = (WebSocketException, OSError, asyncio.TimeoutError)
MARKS = {"chunk_ratio": 1.5, "free_seconds": 1.0, "growth": 0.05}
"""p99 of a chunk among bad guests, times that alone; seconds until a session is free; growth of the memory over the
second half of the rounds, as a part of what there was."""


async def walk(socket: ClientConnection, ends: float, times: list[float], delays: list[float]) -> None:
    """A good guest: chunk after chunk; notes the time of each and the delay of the first frame."""
    async with socket:
        number = 0
        while time.monotonic() < ends:
            number += 1
            asked, keys = time.monotonic(), random.choice(["w", "wd", "a"])
            await socket.send(json.dumps({"type": "event", "camera_actions": keys, "seq": number}))
            _, came = await hear(socket, "frame_batch")
            while (stats := (await hear(socket, "chunk_stats"))[0])["seq"] != number:
                pass
            if number > 1:  # the first chunk is another one: it has the picture in it
                times.append(stats["seconds"]["denoise"] + stats["seconds"]["decode"])
                delays.append(came - asked)


@cache
def large_picture(side: int) -> str:
    """A picture in base64 that is small as a file."""
    data = io.BytesIO()
    Image.new("L", (side, side)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


async def garbage(server: Server, socket: ClientConnection) -> None:
    for _ in range(30):
        wrong: list[str | bytes] = [random.randbytes(200), '{"type": "event", "x": [', "[" * 5000, "9" * 60_000]
        await socket.send(random.choice(wrong))


async def inside(server: Server, socket: ClientConnection, way: str) -> str:
    """Go into a world and be bad there; the name of the session."""
    await socket.send(json.dumps({"type": "init", "pace": "live"}))
    name = str((await hear(socket, "ready", seconds=30))[0]["session"])
    await socket.send(json.dumps({"type": "event", "camera_actions": "w"}))
    with contextlib.suppress(*GONE):
        if way == "megabyte":
            await socket.send(json.dumps({"type": "event", "camera_actions": "w" * 2**20}))
        await asyncio.sleep(8 if way == "slow" else 2 * random.random())
    return name


async def disturb(server: Server, counts: Counter[str], frees: list[float]) -> None:
    """A bad guest, again and again, each time in another way, until it is cancelled."""
    while True:
        way = random.choice(["drop", "drop", "garbage", "megabyte", "slow", "silent", "picture", "half"])
        counts[way] += 1
        name = None
        with contextlib.suppress(*GONE):
            async with contextlib.AsyncExitStack() as stack:
                if way == "half":
                    host, port = server.url.split("//")[1].strip("/").split(":")
                    _, writer = await asyncio.open_connection(host, int(port))
                    stack.callback(writer.transport.abort)
                    writer.write(b"GET / HTTP/1.1\r\nX: ")
                    await asyncio.sleep(random.random() * 5)
                    continue
                socket = await connect(server.world, max_size=None, max_queue=1, ping_interval=None)
                stack.callback(socket.transport.abort)
                if way == "garbage":
                    await garbage(server, socket)
                elif way == "silent":
                    await asyncio.sleep(2)
                elif way == "picture":
                    picture = large_picture(random.choice([4096, 8192]))
                    await socket.send(json.dumps({"type": "init", "prompt": "a street", "first_frame": picture}))
                    await hear(socket, "error", "frame_batch", seconds=30)
                else:
                    name = await inside(server, socket, way)
        if name is not None:
            frees.append(await asyncio.to_thread(freed, server, name))
        await asyncio.sleep(random.random())


def freed(server: Server, name: str) -> float:
    """Seconds until a session is unknown."""
    begins = time.monotonic()
    while time.monotonic() < begins + 60:
        try:
            urlopen(f"{server.url}v1/sessions/{name}/walk?to_chunk=0", timeout=60)
        except HTTPError as error:
            if error.code == 404:
                break
        time.sleep(0.05)
    return time.monotonic() - begins


def state(server: Server) -> dict[str, float]:
    return {"memory_mib": round(server.memory), "files": server.files, "threads": server.threads}


async def phase(server: Server, seconds: float, good: int, bad: int, found: dict[str, Any]) -> None:
    """So many guests for so long; adds what they saw to `found`."""
    inside = [(await begin(server, "step"))[0] for _ in range(good)]  # before there is a line
    ends = time.monotonic() + seconds
    counts: Counter[str] = found.setdefault("guests", Counter())
    lists = [found.setdefault(name, []) for name in ("times", "delays", "frees", "failed", "states")]
    times, delays, frees, failed, states = lists
    used, chunks, own = server.cpu_seconds, server.metric("sana_wm_chunks_total"), time.process_time()
    walkers = [asyncio.create_task(walk(one, ends, times, delays)) for one in inside]
    crowd = [asyncio.create_task(disturb(server, counts, frees)) for _ in range(bad)]
    while not all(task.done() for task in walkers):
        await asyncio.wait(walkers, timeout=5)
        found["most_mib"] = max(found.get("most_mib", 0), round(server.memory))
    for task in crowd:
        task.cancel()  # all of them vanish at once
    await asyncio.wait([*walkers, *crowd])
    over = time.monotonic()
    failed += [repr(task.exception()) for task in (*walkers, *crowd) if not task.cancelled() and task.exception()]
    while await asyncio.to_thread(server.metric, "sana_wm_connections") > 0 and time.monotonic() < over + 60:
        await asyncio.sleep(0.02)
    found.setdefault("left_seconds", []).append(round(time.monotonic() - over, 3))
    await asyncio.sleep(3)  # sockets may linger for two
    states.append(state(server))
    found["cpu_seconds"] = found.get("cpu_seconds", 0) + server.cpu_seconds - used
    found["guests_cpu_seconds"] = found.get("guests_cpu_seconds", 0) + time.process_time() - own
    found["chunks"] = found.get("chunks", 0) + server.metric("sana_wm_chunks_total") - chunks


Row = tuple[str, str, str, "bool | None"]


def judged(alone: dict[str, Any], crowd: dict[str, Any]) -> tuple[dict[str, Any], list[Row]]:
    """What was found as numbers, and as a table."""
    numbers: dict[str, Any] = {}
    for name, found in (("alone", alone), ("crowd", crowd)):
        numbers[name] = {
            "chunk_seconds": summary(found.pop("times")), "event_to_first_frame": summary(found.pop("delays")),
            "free_seconds": summary(found.pop("frees")), **found,
        }  # fmt: skip
    first, second = numbers["alone"]["chunk_seconds"], numbers["crowd"]["chunk_seconds"]
    rows: list[Row] = []
    if first["n"] and second["n"]:
        ratio, middle = second["p99"] / first["p99"], second["p50"] / first["p50"]
        numbers |= {"p99_ratio": round(ratio, 2), "p50_ratio": round(middle, 2)}
        value = f"{ratio:.2f} ({second['p99']:.2f} s of {second['n']}, {first['p99']:.2f} s of {first['n']})"
        rows.append(("others' chunk time, p99, crowd / alone", value, f"< {MARKS['chunk_ratio']}", ratio < 1.5))
        rows.append(("the same, p50", f"{middle:.2f} ({second['p50']:.2f} s, {first['p50']:.2f} s)", "", None))
    free = numbers["crowd"]["free_seconds"]
    if free["n"]:
        holds = free["most"] < MARKS["free_seconds"]
        value = f"at most {free['most']:.2f} s, p50 {free['p50']:.2f} s of {free['n']}"
        rows.append(("session free after its guest vanished", value, "< 1 s", holds))
    states = crowd["states"]
    half, last = states[(len(states) - 1) // 2], states[-1]
    growth = last["memory_mib"] / half["memory_mib"] - 1
    numbers["growth"] = round(growth, 3)
    value = f"{100 * growth:+.1f} % ({half['memory_mib']} to {last['memory_mib']} MiB, most {crowd['most_mib']})"
    rows.append(("memory, second half of the rounds", value, "< +5 %", growth < MARKS["growth"]))
    value = f"{half['files']} to {last['files']} and {half['threads']} to {last['threads']}"
    same = last["files"] <= half["files"] and last["threads"] <= half["threads"]
    rows.append(("open files and threads, likewise", value, "no more", same))
    value = f"{max(crowd['left_seconds']):.2f} s"
    rows.append(("all connections gone after the last guest", value, "< 1 s", max(crowd["left_seconds"]) < 1))
    failed = alone["failed"] + crowd["failed"]
    rows.append(("good guests who were let down", str(len(failed)), "0", not failed))
    return numbers, rows


async def measure(server: Server, given: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    alone: dict[str, Any] = {}
    crowd: dict[str, Any] = {}
    for _ in range(given.rounds):
        seconds = 60 * given.minutes / given.rounds
        await phase(server, given.alone * seconds, given.good, 0, alone)
        await phase(server, seconds, given.good, given.bad, crowd)
    return judged(alone, crowd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="in which the bad guests are there")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--alone", type=float, default=0.5, help="time without them before each round, times a round")
    parser.add_argument("--good", type=int, default=1)
    parser.add_argument("--bad", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    options = ["--model", given.model, "--sessions", str(given.sessions), "--waiting", "100", "--max_chunks", "100000"]
    with running(*options) as server:
        os.nice(10)
        numbers, rows = asyncio.run(measure(server, given))
    text = json.dumps({**vars(given), "out": None, **numbers}, indent=1)
    print(text + "\n\n" + table(rows))
    if given.out:
        given.out.write_text(text + "\n")
    if any(holds is False for *_, holds in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
