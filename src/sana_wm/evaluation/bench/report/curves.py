"""What the charts of a report show, from the results of scenes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from sana_wm.evaluation.bench.aggregate import Result, failure, part
from sana_wm.evaluation.bench.floors import AUTOENCODER, RENDER
from sana_wm.evaluation.bench.report.svg import Line, Point, line_chart, path_plot
from sana_wm.evaluation.bench.settings import CAMERA, TEMPORAL, TRUTH

SECONDS = "seconds"
SMOOTH_SECONDS = 0.5
"""Sharpness jumps with every frame that a codec keeps better; the charts show means over this long."""

Curve = tuple[list[float], list[float | None]]


def split_charts(scenes: Sequence[Result]) -> str:
    """Every scene as a thin line and their mean as a thick one, for each quantity that was measured."""
    cards = []
    for title, curve, floor in (
        ("rotation error, degrees", lambda s: camera_curve(s, "rotation_deg"), "rot_err"),
        ("translation error, units", lambda s: camera_curve(s, "translation"), "trans_err"),
        ("PSNR against the truth, dB", psnr_curve, "psnr"),
        ("sharpness over that of the truth", sharpness_curve, "sharpness_ratio"),
        ("imaging quality", quality_curve, ""),
    ):
        counted = [scene for scene in scenes if failure(scene) is None or floor in ("psnr", "sharpness_ratio", "")]
        curves = [found for found in map(curve, counted) if found is not None]
        if curves:
            levels = [level for level in (floor_level(scene, floor) for scene in counted) if level is not None]
            lines = [*(Line(xs, ys, "one") for xs, ys in curves), _mean_line(curves)]
            chart = line_chart(title, lines, SECONDS, floor=fmean(levels) if levels else None)
            cards.append(f'<div class="card">{chart}</div>')
    return f'<div class="charts">{"".join(cards)}</div>'


def scene_charts(scene: Result) -> str:
    """The charts of one scene: its path, its camera errors, its likeness to the truth, its sharpness."""
    cards = [paths(scene)]
    for title, curve, floor in (
        ("rotation error, degrees", camera_curve(scene, "rotation_deg"), "rot_err"),
        ("translation error, units", camera_curve(scene, "translation"), "trans_err"),
        ("PSNR against the truth, dB", psnr_curve(scene), "psnr"),
        ("imaging quality", quality_curve(scene), ""),
    ):
        if curve is not None:
            cards.append(line_chart(title, [Line(*curve, "made")], SECONDS, floor=floor_level(scene, floor)))
    cards.append(_sharpness_chart(scene))
    return '<div class="charts">' + "".join(f'<div class="card">{card}</div>' for card in cards if card) + "</div>"


def camera_curve(scene: Result, name: str) -> Curve | None:
    """An error of the camera over seconds."""
    camera = part(scene, CAMERA)
    if "curves" not in camera:
        return None
    return [frame / _fps(scene) for frame in camera["frames"]], camera["curves"][name]


def psnr_curve(scene: Result) -> Curve | None:
    """PSNR against the truth over seconds, without frame 0, which is given."""
    values = part(scene, TRUTH).get("curves", {}).get("psnr")
    return None if not values or len(values) < 2 else (_seconds(scene, len(values))[1:], values[1:])


def sharpness_curve(scene: Result) -> Curve | None:
    """Sharpness over that of the truth."""
    curves = part(scene, TEMPORAL).get("curves", {})
    if "true_sharpness" not in curves:
        return None
    pairs = zip(curves["sharpness"], curves["true_sharpness"], strict=False)
    return _smooth(scene, [made / true if true > 0 else None for made, true in pairs])


def quality_curve(scene: Result) -> Curve | None:
    values = part(scene, TEMPORAL).get("curves", {}).get("imaging_quality")
    return None if not values else _smooth(scene, values)


def floor_level(scene: Result, name: str) -> float | None:
    """The floor of a scene through its autoencoder, or else of its render."""
    floors = part(scene, CAMERA).get("floors", {})
    floor = floors.get(AUTOENCODER) or floors.get(RENDER) or {}
    value = floor.get(name)
    return floor.get("release", {}).get(name) if value is None else value


def paths(scene: Result) -> str:
    """The asked and the recovered path, after alignment, from above."""
    camera = part(scene, CAMERA)
    asked = [_above(row) for row in camera.get("asked", [])]
    if not asked:
        return ""
    return path_plot(asked, [None if row is None else _above(row) for row in camera.get("aligned", [])])


def _sharpness_chart(scene: Result) -> str:
    curves = part(scene, TEMPORAL).get("curves", {})
    if not curves:
        return ""
    lines = [Line(*_smooth(scene, curves["sharpness"]), "made", "video")]
    if "true_sharpness" in curves:
        lines.insert(0, Line(*_smooth(scene, curves["true_sharpness"]), "asked", "truth"))
    return line_chart("sharpness", lines, SECONDS)


def _above(row: Sequence[float]) -> Point:
    """x and z of a pose of 12 numbers."""
    return row[3], row[11]


def _fps(scene: Result) -> float:
    return float(scene["video"]["fps"])


def _seconds(scene: Result, count: int) -> list[float]:
    return [frame / _fps(scene) for frame in range(count)]


def _smooth(scene: Result, values: Sequence[Any]) -> Curve:
    size = max(1, round(SMOOTH_SECONDS * _fps(scene)))
    xs: list[float] = []
    ys: list[float | None] = []
    for start in range(0, len(values), size):
        known = [value for value in values[start : start + size] if value is not None]
        xs.append((start + (min(start + size, len(values)) - start - 1) / 2) / _fps(scene))
        ys.append(fmean(known) if known else None)
    return xs, ys


def _mean_line(curves: Sequence[Curve]) -> Line:
    """Mean at each sample over the scenes that have it; scenes of one split are sampled alike."""
    longest = max(curves, key=lambda curve: len(curve[0]))[0]
    means: list[float | None] = []
    for index in range(len(longest)):
        known = [ys[index] for _, ys in curves if index < len(ys)]
        values = [value for value in known if value is not None]
        means.append(fmean(values) if values else None)
    return Line(longest, means, "made", "mean")
