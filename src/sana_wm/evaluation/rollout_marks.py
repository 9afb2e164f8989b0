"""What the chunks of a long video say together: does it hold, in memory and in looks?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sana_wm.evaluation.chunk_look import LOOKS
from sana_wm.evaluation.minute import LEAST_SHARPNESS, LEAST_STD, MOST_FROZEN, WINDOW_SECONDS

BASE_CHUNK = 10
"""Memory is compared with that of this chunk (the first one is 1): what warms up has done so."""
MEMORY_WITHIN = 0.01
MINUTE_WINDOWS = 6
LEAST_TURN = 0.5
"""Of how far a turn should go, in the median: patches in which no place is left do not move when the camera does."""
Row = Mapping[str, Any]


def summarize(rows: Sequence[Row], chunks: int, seconds_a_chunk: float) -> dict[str, Any]:
    """Windows, marks, memory and speed of a video of so many chunks, from its rows; ready for JSON.

    A row with an "error" is the end of a video that failed there.
    """
    made = [row for row in rows if "error" not in row]
    error = next((row["error"] for row in rows if "error" in row), None)
    windows = _windows(made, seconds_a_chunk)
    result: dict[str, Any] = {"chunks": len(made), "error": error, "windows": windows}
    if not made:
        return result | {"marks": [_mark("every chunk is made, and finite", f"{chunks} chunks", f"0: {error}", False)]}
    times = [row["seconds"] for row in made]
    memory = _memory(made)
    frozen = {
        "chunks": [row["chunk"] for row in made if is_frozen(row)],
        "fraction": sum(row["frozen"] for row in made) / max(1, sum(row["moving"] for row in made)),
    }
    turns = [{"seconds": row["chunk"] * seconds_a_chunk, **row["turns"]} for row in made if row["turns"] is not None]
    ranges = {name: _range([window[name] for window in windows]) for name in LOOKS}
    truth = {name: _range([window["truth"][name] for window in windows]) for name in LOOKS}
    return result | {
        "seconds_a_chunk": {
            "first": times[0], "median": statistics.median(times), "most": max(times[1:] or times), "sum": sum(times)
        },
        "memory": memory,
        "frozen": frozen,
        "looks": ranges,
        "truth": truth,
        "turns": turns,
        "drift": _drift(windows),
        "marks": [*_marks(len(made), chunks, error, memory, frozen, ranges, truth), _turns_mark(turns)],
    }  # fmt: skip


def is_frozen(row: Row) -> bool:
    """At least half of the frames in which the camera moves repeat the one before them."""
    return bool(row["moving"]) and 2 * row["frozen"] >= row["moving"]


def _windows(rows: Sequence[Row], seconds_a_chunk: float) -> list[dict[str, Any]]:
    """Means over each ten seconds; a chunk belongs to those in which its middle lies."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(int((row["chunk"] - 0.5) * seconds_a_chunk // WINDOW_SECONDS), []).append(row)
    found = []
    for window, members in groups.items():
        means = {name: statistics.fmean(row[name] for row in members) for name in (*LOOKS, "change", "seconds")}
        moving, frozen = (sum(row[name] for row in members) for name in ("moving", "frozen"))
        peak = max(row["peak_bytes"] for row in members)
        truth = {name: statistics.fmean(row["truth"][name] for row in members) for name in LOOKS}
        begin = window * WINDOW_SECONDS
        found.append({"from_seconds": begin, "chunks": len(members), **means, "moving": moving, "frozen": frozen,
                      "peak_bytes": peak, "truth": truth})  # fmt: skip
    return found


def _range(values: Sequence[float]) -> dict[str, float | None]:
    """A number over the windows: in the first one, its smallest, its largest and its last, and these over the first."""
    first = values[0]
    found = {"least": min(values), "most": max(values), "last": values[-1]}
    over = {f"{name}_over_first": value / first if first else None for name, value in found.items()}
    return {"first": first, **found, **over}


def _drift(windows: Sequence[Row]) -> list[dict[str, Any]]:
    """The last ten seconds before a minute, ten minutes and the end, against the first ten: brightness less it, and
    the others over it (None where it is 0)."""
    first, found = windows[0], []
    for name, place in (("1:00", 5), ("10:00", 59), ("end", len(windows) - 1)):
        if place >= len(windows):
            continue
        there = windows[place]
        ratios = {look: there[look] / first[look] if first[look] else None for look in LOOKS if look != "brightness"}
        change = there["brightness"] - first["brightness"]
        found.append({"until": name, "from_seconds": there["from_seconds"], "brightness": change, **ratios})
    return found


def _memory(rows: Sequence[Row]) -> dict[str, Any]:
    """Peak of the last chunk against the tenth of the process that made it: those of two processes say nothing."""
    own = [row for row in rows if row["process"] == rows[-1]["process"]]
    found: dict[str, Any] = {
        "processes": rows[-1]["process"],
        "last": {
            "chunk": rows[-1]["chunk"],
            "peak_bytes": own[-1]["peak_bytes"],
            "state_bytes": own[-1]["state_bytes"],
        },
    }
    if len(own) <= BASE_CHUNK:
        return found | {"base": None, "last_over_base": None, "most_over_base": None, "tens_over": None}
    base = own[BASE_CHUNK - 1]
    most = max(row["peak_bytes"] for row in own[BASE_CHUNK - 1 :])
    return found | {
        "base": {name: base[name] for name in ("chunk", "peak_bytes", "state_bytes")},
        "last_over_base": own[-1]["peak_bytes"] / base["peak_bytes"],
        "most_over_base": most / base["peak_bytes"],
        "tens_over": _tens_over([row["peak_bytes"] for row in own[BASE_CHUNK - 1 :]]),
    }


def _tens_over(peaks: Sequence[int]) -> float | None:
    """Median of the last ten over that of the first ten; one chunk beside another is noisy on a CPU."""
    return statistics.median(peaks[-10:]) / statistics.median(peaks[:10]) if len(peaks) >= 20 else None


def _marks(
    made: int,
    chunks: int,
    error: str | None,
    memory: Mapping[str, Any],
    frozen: Mapping[str, Any],
    looks: Mapping[str, Mapping[str, float | None]],
    truth: Mapping[str, Mapping[str, float | None]],
) -> list[dict[str, Any]]:
    said = f"{made}" if error is None else f"{made}: {error}"
    marks = [_mark("every chunk is made, and finite", f"{chunks} chunks", said, made == chunks)]
    ratio, base = memory["last_over_base"], BASE_CHUNK if memory["base"] is None else memory["base"]["chunk"]
    wanted = f"within {MEMORY_WITHIN:.0%} of chunk {base}"
    if memory["processes"] > 1:  # so that nobody takes it for the whole video's
        wanted += f", the {BASE_CHUNK}th of process {memory['processes']}" if memory["base"] else " of one process"
    told = f"fewer than {BASE_CHUNK + 1} chunks of one process" if ratio is None else f"{100 * (ratio - 1):+.2f} %"
    if memory["tens_over"] is not None:
        told += f" (medians of the last ten and of the ten from there on: {100 * (memory['tens_over'] - 1):+.2f} %)"
    passed = None if ratio is None else abs(ratio - 1) <= MEMORY_WITHIN
    marks.append(_mark("peak memory of the last chunk", wanted, told, passed))
    count = len(frozen["chunks"])
    marks.append(_mark("chunks that stand still", "none", str(count), count == 0))
    share = frozen["fraction"]
    marks.append(
        _mark("frames that stand still", f"at most {MOST_FROZEN:.0%}", f"{100 * share:.2f} %", share <= MOST_FROZEN)
    )
    for name, least in (("contrast", LEAST_STD), ("sharpness", LEAST_SHARPNESS)):
        made_least, true_least = looks[name]["least"] or 0.0, truth[name]["least"] or 0.0
        told = f"{made_least:.3g}" + (f", {made_least / true_least:.2f} of the truth's" if true_least else "")
        own, true = (_told(found[name]["least_over_first"]) for found in (looks, truth))
        told += f" (of the first {WINDOW_SECONDS} s: {own}; the truth {true})"
        wanted = f"at least {least:g} of the truth's least"
        marks.append(_mark(f"least {name} of {WINDOW_SECONDS} s", wanted, told, made_least >= least * true_least > 0))
    return marks


def _turns_mark(turns: Sequence[Row]) -> dict[str, Any]:
    """Whether the camera is still obeyed."""
    shares = [turn[side] for turn in turns for side in ("left", "right")]
    wanted = f"at least {LEAST_TURN:g} of how far they should, in the median"
    if not shares:
        return _mark("turns go", wanted, "none tried", None)
    middle = statistics.median(shares)
    told = f"{middle:.2f} ({min(shares):.2f} to {max(shares):.2f}, {len(shares)} turns)"
    return _mark("turns go", wanted, told, middle >= LEAST_TURN)


def _told(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f}"


def _mark(what: str, wanted: str, found: str, passed: bool | None) -> dict[str, Any]:
    """passed None: nothing to judge by."""
    return {"what": what, "wanted": wanted, "found": found, "passed": passed}


def together(scenes: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether all marks of all scenes are passed; None if none failed but some could not be judged."""
    passed = [mark["passed"] for scene in scenes for mark in scene["marks"]]
    return False if False in passed else None if None in passed else True


def markdown(result: Mapping[str, Any]) -> str:
    """Marks, and looks over time (means over the scenes), as Markdown tables."""
    settings, scenes = result["settings"], result["scenes"]
    length = clock(settings["chunks"] * settings["frames_a_chunk"] / settings["fps"])
    count = len(settings["stream"]["timesteps"]) - 1
    steps = "1 step" if count == 1 else f"{count} steps"
    made = f"{settings['model']}, {steps}, {length} of split {settings['split']}, keys {settings['keys']}"
    lines = [f"{made}, {result['environment']['device_name']}", ""]
    heads = ["mark", "wanted", *(f"scene {i}" for i in range(len(scenes))), "passed"]
    lines += _table(
        heads, [_mark_cells(marks) for marks in zip(*(_padded(s["marks"], scenes) for s in scenes), strict=True)]
    )
    alive = [scene for scene in scenes if scene["windows"]]
    if alive:
        lines += ["", *_over_time(alive)]
        chunk = statistics.median(scene["seconds_a_chunk"]["median"] for scene in alive)
        real = settings["frames_a_chunk"] / settings["fps"] / chunk
        peak = max(window["peak_bytes"] for scene in alive for window in scene["windows"])
        speed = f"A chunk takes {chunk:.3f} s (median), {real:.2f} times real time"
        lines += ["", f"{speed}; at most {peak / 2**30:.2f} GiB: {settings['memory']}."]
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """m:ss, rounded down."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _padded(marks: Sequence[Mapping[str, Any]], scenes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """As many as the scene with the most has: one that failed at once has but the first."""
    most = max((scene["marks"] for scene in scenes), key=len)
    return [*marks, *({**mark, "found": "", "passed": None} for mark in most[len(marks) :])]


def _mark_cells(marks: Sequence[Mapping[str, Any]]) -> list[str]:
    passed = together([{"marks": marks}])
    said = {True: "yes", False: "**no**", None: "not judged"}[passed]
    wanted = " / ".join(dict.fromkeys(mark["wanted"] for mark in marks))
    return [marks[0]["what"], wanted, *(mark["found"] for mark in marks), said]


def _over_time(scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first ten seconds, the last ten of every minute, and the last of all; of the scenes that got there."""
    count = max(len(scene["windows"]) for scene in scenes)
    shown = [w for w in range(count) if w in (0, count - 1) or w % MINUTE_WINDOWS == MINUTE_WINDOWS - 1 or count <= 7]
    heads = ["time", *LOOKS, "change", "frozen frames", "truth's contrast", "and sharpness", "turns left, right"]
    rows = []
    for window in shown:
        found = [scene["windows"][window] for scene in scenes if window < len(scene["windows"])]
        mean = {name: statistics.fmean(w[name] for w in found) for name in (*LOOKS, "change")}
        begin = found[0]["from_seconds"]
        frozen = sum(w["frozen"] for w in found) / max(1, sum(w["moving"] for w in found))
        truth = {name: statistics.fmean(w["truth"][name] for w in found) for name in LOOKS}
        rows.append([
            f"{clock(begin)} - {clock(begin + WINDOW_SECONDS)}", f"{mean['brightness']:.1f}", f"{mean['contrast']:.1f}",
            f"{mean['saturation']:.1f}", f"{100 * mean['clipped']:.1f} %", f"{mean['sharpness']:.4f}",
            f"{mean['change']:.2f}", f"{100 * frozen:.1f} %", f"{truth['contrast']:.1f}", f"{truth['sharpness']:.4f}",
            _turns_within(scenes, begin, begin + WINDOW_SECONDS),
        ])  # fmt: skip
    return _table(heads, rows)


def _turns_within(scenes: Sequence[Mapping[str, Any]], begin: float, end: float) -> str:
    """Means over the scenes of the turns that were tried in these seconds."""
    found = [turns for scene in scenes for turns in scene["turns"] if begin < turns["seconds"] <= end]
    means = [statistics.fmean(turns[side] for turns in found) for side in ("left", "right") if found]
    return ", ".join(f"{mean:.2f}" for mean in means)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|---" * len(heads) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
