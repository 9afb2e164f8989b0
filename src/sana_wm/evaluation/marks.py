"""What nano has to reach, and the tables that say whether it does."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sana_wm.evaluation.held_out import FREEDOOM, PROCEDURAL

Numbers = Mapping[str, float]
"""Measured numbers of one clip by name, such as "ae" or "follow.1-16.generated"."""

TOGETHER = "together"
SPANS: tuple[tuple[int, int], ...] = ((1, 16), (17, 48), (49, 80), (17, 80))
"""First and last frame of the spans that are measured; the last two of them together are "after frame 16"."""
CONTROL_FRAMES = (8, 48)
TEXT_TOLERANCE_DB = 0.5


@dataclass(frozen=True)
class Mark:
    """`number` of the clips of `world` must on average be at least `least` or at most `most`."""

    what: str
    number: str
    world: str
    least: float = -math.inf
    most: float = math.inf

    @property
    def wanted(self) -> str:
        if math.isinf(self.most):
            return f">= {self.least:g} dB"
        return f"<= {self.most:g} dB" if math.isinf(self.least) else f"{self.least:g} to {self.most:g} dB"


MARKS = (
    Mark("autoencoder, procedural", "ae", PROCEDURAL, least=30.0),
    Mark("autoencoder, Freedoom", "ae", FREEDOOM, least=28.0),
    Mark("generated below autoencoder, frames 1-16", "follow.1-16.below_autoencoder", TOGETHER, most=2.5),
    Mark("generated below autoencoder, frames 17-48", "follow.17-48.below_autoencoder", TOGETHER, most=4.0),
    Mark("generated below autoencoder, frames 49-80", "follow.49-80.below_autoencoder", TOGETHER, most=6.0),
    Mark("generated above repeated first frame, frames 17-80", "follow.17-80.above_repeat", TOGETHER, least=4.0),
    Mark("control: true minus mirrored path, frames 8-48", "control", PROCEDURAL, least=5.0),
    Mark(
        "text: control with shuffled prompts minus control",
        "text.control_change",
        PROCEDURAL,
        least=-TEXT_TOLERANCE_DB,
        most=TEXT_TOLERANCE_DB,
    ),
)


def summary(values: Iterable[float]) -> dict[str, float]:
    """Mean, standard deviation (0 for one value), smallest, median, largest and count."""
    numbers = list(values)
    return {
        "mean": statistics.fmean(numbers),
        "std": statistics.stdev(numbers) if len(numbers) > 1 else 0.0,
        "min": min(numbers),
        "median": statistics.median(numbers),
        "max": max(numbers),
        "n": len(numbers),
    }


def aggregate(worlds: Sequence[str], scenes: Sequence[Numbers]) -> dict[str, dict[str, dict[str, float]]]:
    """:func:`summary` of every number over the clips of each world that have it, and of all together."""
    groups: dict[str, list[Numbers]] = {}
    for world, numbers in zip(worlds, scenes, strict=True):
        groups.setdefault(world, []).append(numbers)
    groups[TOGETHER] = list(scenes)
    result: dict[str, dict[str, dict[str, float]]] = {}
    for world, members in groups.items():
        names = dict.fromkeys(name for numbers in members for name in numbers)
        result[world] = {name: summary(n[name] for n in members if name in n) for name in names}
    return result


def judge(aggregated: Mapping[str, Mapping[str, Numbers]], minute: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Every mark whose number was measured, with what was found; the minute is a mark as well."""
    results: list[dict[str, Any]] = []
    for mark in MARKS:
        found = aggregated.get(mark.world, {}).get(mark.number)
        if found is not None:
            bounds = {name: v for name, v in asdict(mark).items() if isinstance(v, str) or math.isfinite(v)}
            passed = mark.least <= found["mean"] <= mark.most
            results.append({**bounds, "wanted": mark.wanted, **found, "passed": passed})
    if minute is not None:
        wanted = "finite, no grey-out, not frozen"
        results.append({"what": "one minute", "number": "minute", "wanted": wanted, "passed": minute["passed"]})
    return results


def markdown(result: Mapping[str, Any]) -> str:
    """The marks and all numbers of a measurement as Markdown tables."""
    aggregated = result["aggregate"]
    worlds = list(aggregated)
    lines = [f"{len(result['scenes'])} held-out clips, split {result['settings']['split']}, {_machine(result)}", ""]
    lines += ["| what | mark | measured | passed |", "|---|---|---|---|"]
    for mark in result["marks"]:
        measured = _cell(mark) if "mean" in mark else "see below"
        passed = "yes" if mark["passed"] else "**no**"
        lines.append(f"| {mark['what']} | {mark['wanted']} | {measured} | {passed} |")
    lines += ["", "| number | " + " | ".join(worlds) + " |", "|---" * (len(worlds) + 1) + "|"]
    for name in aggregated[TOGETHER]:
        cells = [_cell(aggregated[world][name]) if name in aggregated[world] else "" for world in worlds]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if result.get("minute"):
        lines += ["", *_minute_lines(result["minute"])]
    took = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result["seconds"].items())
    return "\n".join([*lines, "", f"Seconds: {took}."])


def _machine(result: Mapping[str, Any]) -> str:
    environment = result["environment"]
    return f"{environment['device_name']}, PyTorch {environment['torch']}"


def _cell(found: Numbers) -> str:
    return f"{found['mean']:.2f} ± {found['std']:.2f} ({found['min']:.2f} ... {found['max']:.2f}; n={found['n']})"


def _minute_lines(minute: Mapping[str, Any]) -> list[str]:
    if not minute["finite"]:
        return [f"One minute: not finite ({minute['error']})."]
    windows = range(len(minute["truth"]["std"]))
    lines = ["| one minute, each 10 s | " + " | ".join(str(i + 1) for i in windows) + " |"]
    lines.append("|---" * (len(windows) + 1) + "|")
    for source in ("generated", "truth"):
        for name, form in (("std", ".1f"), ("sharpness", ".4f")):
            values = " | ".join(f"{value:{form}}" for value in minute[source][name])
            lines.append(f"| {source}, {name} | {values} |")
    frozen, still = minute["frozen_fraction"], minute["truth_still_fraction"]
    return [*lines, "", f"Frozen frames {100 * frozen:.2f} % (the true camera rests in {100 * still:.2f} %)."]
