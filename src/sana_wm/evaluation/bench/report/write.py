"""The report of a run: one HTML file with tables, curves, paths and pictures, what went wrong first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sana_wm.evaluation.bench.aggregate import Result, failure, part
from sana_wm.evaluation.bench.columns import TABLES, Column, Group, Table, window_rows, window_titles
from sana_wm.evaluation.bench.folder import MethodFolder, replacing
from sana_wm.evaluation.bench.report.curves import split_charts
from sana_wm.evaluation.bench.report.page import facts, page
from sana_wm.evaluation.bench.report.scenes import scene_block
from sana_wm.evaluation.bench.settings import CAMERA, TRUTH
from sana_wm.evaluation.bench.tables import rows_of, title

OPEN_SCENES = 3
"""Scenes of a split, the worst, that are unfolded to begin with."""
PICTURE_BYTES = 6 * 2**20
"""All contact sheets together; with many scenes each is made smaller."""


def write_report(folder: MethodFolder, summary: Mapping[str, Any], results: Mapping[str, Sequence[Result]]) -> None:
    """Write `report.html`, which holds everything it shows."""
    name = title(summary)
    count = sum(len(scenes) for scenes in results.values())
    body = [f"<h1>{escape(name)}</h1>", facts(_facts(summary, results)), _contents(results), _failures(summary)]
    for split, scenes in results.items():
        body.append(f'<h2 id="{escape(split)}">{escape(split)}</h2>')
        body += [_table(table, rows_of(summary["splits"][split])) for table in TABLES]
        body += [f"<h3>All {len(scenes)} scenes over time</h3>", _windows(summary["splits"][split]["all"])]
        body.append(split_charts(scenes))
        body.append("<h3>Scenes, the worst first</h3>")
        for place, scene in enumerate(sorted(scenes, key=badness, reverse=True)):
            sheet = folder.sheet(split, scene["scene"]["id"])
            body.append(scene_block(scene, sheet, PICTURE_BYTES // max(1, count), unfolded=place < OPEN_SCENES))
    versions = ", ".join(f"{key} {value}" for key, value in summary["versions"].items())
    body.append(f"<footer>{escape(versions)}</footer>")
    with replacing(folder.report) as partial:
        partial.write_text(page(name, body), encoding="utf-8")


def badness(scene: Result) -> tuple[bool, float, float]:
    """Sorts failed scenes before all others, then by the camera error, and where that is unknown by the likeness."""
    camera = part(scene, CAMERA).get("release", {}).get("cam_mc")
    psnr = part(scene, TRUTH).get("psnr")
    return failure(scene) is not None, camera or 0.0, -(psnr or 0.0)


def _facts(summary: Mapping[str, Any], results: Mapping[str, Sequence[Result]]) -> dict[str, str]:
    settings, method = summary["settings"], summary["method"]
    generation = settings["generation"]
    scenes = [scene for split in results.values() for scene in split]
    found = {
        "method": ", ".join(f"{key} {value}" for key, value in _plain(method).items()) or "not described",
        "videos": "as they lay in the folder" if generation is None else _made(generation),
        "scenes": ", ".join(f"{len(split)} {name}" for name, split in results.items()),
        "length": f"{scenes[0]['scene']['frames']} frames at {scenes[0]['scene']['fps']:g} fps",
        "pose engine": f"{settings['engine']}, every {settings['interval']} frames"
        + (", frame 0 left out" if settings["skip_first_frame"] else ""),
    }
    if summary["missing"]:
        found["not measured"] = "; ".join(f"{what}: {why.rstrip('.')}" for what, why in summary["missing"].items())
    return found


def _plain(method: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in method.items() if isinstance(value, (str, int, float)) and value != ""}


def _made(generation: Mapping[str, Any]) -> str:
    given = {name.replace("_", " "): value for name, value in generation.items() if value is not None}
    return ", ".join(f"{name} {value}" for name, value in given.items())


def _contents(results: Mapping[str, Sequence[Result]]) -> str:
    links = "".join(f'<a href="#{escape(split)}">{escape(split)}</a>' for split in results)
    return f"<nav>{links}</nav>" if len(results) > 1 else ""


def _failures(summary: Mapping[str, Any]) -> str:
    failed = summary["failed"]
    if not failed:
        return '<p class="soft">No scene failed.</p>'
    rows = "".join(f"<li><b>{escape(f['split'])}/{escape(f['scene'])}</b>: {escape(f['reason'])}</li>" for f in failed)
    one = "1 scene" if len(failed) == 1 else f"{len(failed)} scenes"
    return f'<div class="failed"><h2>{one} failed, and are in no camera mean</h2><ul>{rows}</ul></div>'


def _table(table: Table, groups: Mapping[str, Group]) -> str:
    shown = [c for c in table.columns if any(c.value(group) is not None for group in groups.values())]
    absent = [c.title for c in table.columns if c not in shown]
    heads = "".join(f'<th title="{escape(c.meaning)}">{escape(c.title)}</th>' for c in shown)
    rows = "".join(_row(name, group, shown) for name, group in groups.items())
    note = escape(table.note) + (f" Missing in this run: {escape(', '.join(absent))}." if absent else "")
    head = f"<tr><th>scenes</th><th>n</th><th>failed</th>{heads}</tr>"
    return (
        f'<h3>{escape(table.title)}</h3><p class="note">{note}</p><div class="scroll"><table>{head}{rows}</table></div>'
    )


def _windows(group: Group) -> str:
    rows = window_rows(group)
    if not rows:
        return ""
    titles = window_titles(group, max(map(len, rows.values())))
    head = "<tr><th>mean of</th>" + "".join(f"<th>{escape(t)}</th>" for t in titles) + "</tr>"
    cells = (f"<tr><td>{escape(n)}</td>" + "".join(f"<td>{v}</td>" for v in vs) + "</tr>" for n, vs in rows.items())
    return f'<div class="scroll"><table>{head}{"".join(cells)}</table></div>'


def _row(name: str, group: Group, columns: Sequence[Column]) -> str:
    cells = []
    for column in columns:
        floors = column.floors(group)
        beside = "" if floors == (None, None) else f"<small>{' / '.join(map(column.write, floors))}</small>"
        cells.append(f"<td>{column.write(column.value(group))}{beside}</td>")
    failed = f'<td class="bad">{group["failed"]}</td>' if group["failed"] else "<td>0</td>"
    style = ' class="whole"' if name == "all" else ""
    return f"<tr{style}><td>{escape(name)}</td><td>{group['scenes']}</td>{failed}{''.join(cells)}</tr>"
