"""A summary as Markdown: one block a split, three tables in it, and what failed or is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sana_wm.evaluation.bench.columns import TABLES, Group, Table, window_rows, window_titles


def markdown(summary: Mapping[str, Any]) -> str:
    """All tables of a summary."""
    lines = [f"# {title(summary)}", ""]
    for split, found in summary["splits"].items():
        lines += [f"## {split}", ""]
        for table in TABLES:
            lines += [f"### {table.title}", "", table.note, "", *_rows(table, rows_of(found)), ""]
        lines += _window_lines(found["all"])
    lines += [f"## Failed scenes: {len(summary['failed'])}", ""]
    lines += [f"- {entry['split']}/{entry['scene']}: {entry['reason']}" for entry in summary["failed"]]
    if summary["missing"]:
        lines += ["", "## Not measured", ""]
        lines += [f"- {what}: {why}" for what, why in summary["missing"].items()]
    return "\n".join(lines)


def _window_lines(group: Group) -> list[str]:
    rows = window_rows(group)
    if not rows:
        return []
    titles = ["all scenes", *window_titles(group, max(map(len, rows.values())))]
    lines = ["### Over time", "", "| " + " | ".join(titles) + " |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    return [*lines, *(f"| {name} | " + " | ".join(values) + " |" for name, values in rows.items()), ""]


def title(summary: Mapping[str, Any]) -> str:
    """Which method on which benchmark."""
    model = Path(str(summary["method"].get("model", "results"))).name
    return f"{model} on {summary['settings']['benchmark']}"


def rows_of(split: Mapping[str, Any]) -> dict[str, Group]:
    """The rows of a split's tables: all scenes, then each category."""
    return {"all": split["all"], **split["categories"]}


def _rows(table: Table, groups: Mapping[str, Group]) -> Sequence[str]:
    titles = ["scenes", "n", "failed", *(column.title for column in table.columns)]
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for name, group in groups.items():
        cells = [name, str(group["scenes"]), str(group["failed"]), *(column.cell(group) for column in table.columns)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
