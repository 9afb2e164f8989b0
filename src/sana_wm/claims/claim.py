"""A claim with its verdict, and the small words all claims share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Results = dict[str, dict[str, Any]]
"""By the name of the job."""

HOLDS, FAILS, OPEN = "holds", "does **not** hold", "not decided"


@dataclass(frozen=True)
class Claim:
    """Attributes:
    text: the claim. paper, ours: what was found there and here, in a line. verdict: of the three above.
    details: Markdown below the table of claims.
    """

    text: str
    paper: str
    ours: str
    verdict: str
    details: str


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over runs, or the one value."""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{statistics.mean(values):.3g} ± {statistics.stdev(values):.2g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def runs_of(results: Results, variant: str) -> list[dict[str, Any]]:
    """The results of every seed of a variant."""
    found = []
    for name in sorted(results):
        stem, _, seed = name.rpartition("_")
        if stem == variant and seed.isdigit():
            found.append(results[name])
    return found


def clip_means(runs: Sequence[dict[str, Any]], key: str) -> list[float]:
    """For every run the mean over those clips that have the number; runs in which none has it are left out."""
    values = ([clip[key] for clip in run["follow"] if clip[key] is not None] for run in runs)
    return [statistics.mean(found) for found in values if found]


def gain(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], key: str) -> tuple[float, float]:
    """How much a number of the same clips grows from one variant to another: mean and its standard error over clips.

    A clip's number is its mean over the runs of a variant. All clips need it.
    """
    of_clips = (zip(*([clip[key] for clip in run["follow"]] for run in runs), strict=True) for runs in (before, after))
    first, second = ([statistics.mean(values) for values in clips] for clips in of_clips)
    return mean_and_error([b - a for a, b in zip(first, second, strict=True)])


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error; infinite for a single value."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    return statistics.mean(values), error
