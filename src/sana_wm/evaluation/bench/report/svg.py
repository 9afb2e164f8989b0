"""Small line charts and path plots as SVG text; colours come from the style sheet of the page they stand in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 28, 32
MOST_POINTS = 160
"""Points a line is drawn with; longer curves are averaged."""
PLOT_SIZE, PLOT_MARGIN = 300, 34
LEAST_EXTENT = 0.05
"""Units: a path that stays within less is drawn as a dot, not blown up to noise."""


@dataclass(frozen=True)
class Line:
    """A curve: x and y of each sample, None where it is unknown; `style` is a class of the style sheet."""

    xs: Sequence[float]
    ys: Sequence[float | None]
    style: str
    label: str = ""


def line_chart(title: str, lines: Sequence[Line], x_label: str, *, floor: float | None = None) -> str:
    """A chart of lines over a common x axis; `floor` is a dashed level across it. Empty without any known value."""
    known = [y for line in lines for y in line.ys if y is not None]
    if not known:
        return ""
    levels = known if floor is None else [*known, floor]
    low, high = min(levels), max(levels)
    low = 0.0 if 0 <= low < 0.4 * high else low  # a curve near zero is read from zero, others from where they are
    ticks = nice_ticks(low, high if high > low else low + 1)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    right = max(line.xs[-1] for line in lines if line.xs)
    x_ticks = [tick for tick in nice_ticks(0, max(right, 1e-9)) if tick <= right * (1 + 1e-9)]

    def place(x: float, y: float) -> Point:
        across, up = x / max(right, 1e-9), (y - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts.append(f'<text class="title" x="{LEFT}" y="14">{escape(title)}</text>')
    for tick in ticks:
        y = place(0, tick)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 5}" y="{y + 3.5:.1f}">{tick:g}</text>')
    for tick in x_ticks:
        x = place(tick, low)[0]
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}">{tick:g}</text>')
    parts.append(f'<text class="tick end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{escape(x_label)}</text>')
    if floor is not None:
        y = place(0, floor)[1]
        parts.append(f'<path class="floor" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
    for line in lines:
        for run in _runs(line):
            parts.append(_stroke([place(x, y) for x, y in run], line.style))
    return "".join([*parts, *_legend([line for line in lines if line.label]), "</svg>"])


def path_plot(asked: Sequence[Point], recovered: Sequence[Point | None]) -> str:
    """Two paths seen from above: x to the right, forward up. A dot is the start; a bar shows the scale."""
    known = [*asked, *(point for point in recovered if point is not None)]
    xs, zs = [p[0] for p in known], [p[1] for p in known]
    extent = max(max(xs) - min(xs), max(zs) - min(zs), LEAST_EXTENT)
    middle = (min(xs) + max(xs)) / 2, (min(zs) + max(zs)) / 2
    scale = (PLOT_SIZE - 2 * PLOT_MARGIN) / extent

    def place(point: Point) -> Point:
        return PLOT_SIZE / 2 + (point[0] - middle[0]) * scale, PLOT_SIZE / 2 - (point[1] - middle[1]) * scale

    parts = [f'<svg class="plot" viewBox="0 0 {PLOT_SIZE} {PLOT_SIZE}" role="img" aria-label="path from above">']
    parts.append('<text class="title" x="10" y="16">path from above</text>')
    parts.append(_stroke([place(p) for p in asked], "asked"))
    runs: list[list[Point]] = [[]]
    for point in recovered:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(place(point))
    parts += [_stroke(run, "made") for run in runs if run]
    x, y = place(asked[0])
    parts.append(f'<circle class="start" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    bar = nice_length(extent / 3)
    foot = PLOT_SIZE - 12
    parts.append(f'<path class="bar" d="M10 {foot}h{bar * scale:.1f}"/>')
    parts.append(f'<text class="tick" x="{16 + bar * scale:.1f}" y="{foot + 3.5}">{bar:g} units</text>')
    for row, (style, label) in enumerate((("asked", "asked"), ("made", "recovered"))):
        y = 12 + 14 * row
        parts.append(f'<path class="{style}" d="M{PLOT_SIZE - 84} {y}h16"/>')
        parts.append(f'<text class="tick" x="{PLOT_SIZE - 62}" y="{y + 3.5}">{label}</text>')
    return "".join([*parts, "</svg>"])


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers from just below `low` to just below or at `high`."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while (high - low) / step > most - 1:
        step = _next(step)
    first = math.floor(low / step + 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def nice_length(limit: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `limit`."""
    power = 10.0 ** math.floor(math.log10(limit))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= limit * (1 + 1e-9))


def _next(step: float) -> float:
    """The next of 1, 2, 5, 10, 20 ..."""
    leading = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    return step * (2.5 if 1.9 < leading < 2.1 else 2.0)


def _runs(line: Line) -> list[list[Point]]:
    """The known stretches of a line, averaged to at most :data:`MOST_POINTS` points in all."""
    size = math.ceil(len(line.xs) / MOST_POINTS)
    runs: list[list[Point]] = [[]]
    for start in range(0, len(line.xs), max(1, size)):
        ys = [y for y in line.ys[start : start + size] if y is not None]
        if not ys:
            runs.append([])
            continue
        xs = line.xs[start : start + size]
        runs[-1].append((sum(xs) / len(xs), sum(ys) / len(ys)))
    return [run for run in runs if run]


def _stroke(points: Sequence[Point], style: str) -> str:
    if len(points) == 1:
        x, y = points[0]
        return f'<circle class="{style} dot" cx="{x:.1f}" cy="{y:.1f}" r="1.5"/>'
    return f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _legend(lines: Sequence[Line]) -> list[str]:
    parts = []
    right = WIDTH - RIGHT
    for line in reversed(lines):
        width = 6.0 * len(line.label)
        parts.append(f'<text class="tick" x="{right - width:.0f}" y="14">{escape(line.label)}</text>')
        parts.append(f'<path class="{line.style}" d="M{right - width - 22:.0f} 10h16"/>')
        right -= round(width) + 32
    return parts
