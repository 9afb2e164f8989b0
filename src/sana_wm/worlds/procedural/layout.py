"""Draw one scene around a camera path: theme, ground, weather, and things that keep out of the path's way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.materials import GROUNDS, MATERIALS, Colour
from sana_wm.worlds.procedural.scene import BALLS, BOXES, COLUMNS, GROUND, NUM_COLS, NUM_ROWS, WEDGES, Col
from sana_wm.worlds.procedural.things import MAKERS, Style, Thing
from sana_wm.worlds.procedural.weather import Weather, draw_weather

CLEARANCE = 0.9
"""Room between the path and the rim of any thing, metres."""

_SHAPES = {"box": BOXES, "wedge": WEDGES, "column": COLUMNS, "ball": BALLS}
_CANDIDATES = 16
_GREENS: tuple[Colour, ...] = ((0.36, 0.58, 0.26), (0.46, 0.62, 0.28), (0.26, 0.48, 0.28), (0.34, 0.54, 0.34))
_AUTUMN: tuple[Colour, ...] = ((0.86, 0.56, 0.22), (0.76, 0.36, 0.20), (0.84, 0.70, 0.30), (0.46, 0.56, 0.26))
_BLOSSOM: tuple[Colour, ...] = ((0.92, 0.66, 0.72), (0.40, 0.60, 0.32), (0.94, 0.74, 0.78))
_ROADS: tuple[tuple[str, Colour], ...] = (
    ("road", (0.40, 0.41, 0.43)),
    ("path", (0.74, 0.62, 0.46)),
    ("gravel path", (0.68, 0.66, 0.62)),
)


@dataclass(frozen=True)
class _Theme:
    grounds: tuple[str, ...]
    things: dict[str, float]
    walls: tuple[str, ...]
    accents: tuple[str, ...]
    roads: tuple[tuple[str, Colour], ...] = _ROADS
    leaves: tuple[tuple[Colour, ...], ...] = (_GREENS, _GREENS, _AUTUMN, _BLOSSOM)


_BRIGHT = ("red", "blue", "yellow", "green", "orange", "teal", "purple", "pink")
_PALE = ("white", "beige", "yellow", "pink", "terracotta", "grey", "blue")
_STONE = ("beige", "grey", "white", "terracotta")

THEMES: dict[str, _Theme] = {
    "village": _Theme(
        ("grass", "grass", "dirt", "snow", "cobbles", "dry grass"),
        {"house": 5, "tree": 4, "bush": 2, "wall": 2, "crate": 1, "barrel": 1, "silo": 1, "tower": 1, "fir": 1},
        _PALE, _BRIGHT,
    ),
    "park": _Theme(
        ("grass", "grass", "dry grass", "snow"),
        {"tree": 6, "bush": 4, "rock": 2, "fir": 2, "column": 1, "wall": 1, "ball": 1, "obelisk": 1, "arch": 1},
        _STONE, _BRIGHT,
    ),
    "ruins": _Theme(
        ("sand", "paving", "grass", "dry grass", "dirt"),
        {"column": 6, "wall": 3, "arch": 2, "obelisk": 2, "rock": 3, "pyramid": 1, "dome": 1, "bush": 1},
        _STONE, _STONE, roads=_ROADS[1:],
    ),
    "city": _Theme(
        ("paving", "asphalt", "cobbles", "checker"),
        {"tower": 7, "house": 1, "tree": 3, "crate": 1, "barrel": 1, "block": 1, "column": 1, "bush": 1, "wall": 1},
        (*_PALE, "dark grey", "teal"), _BRIGHT, roads=_ROADS[:1],
    ),
    "yard": _Theme(
        ("asphalt", "dirt", "paving", "deck"),
        {"container": 4, "crate": 4, "barrel": 3, "wall": 2, "silo": 2, "block": 1, "tower": 1},
        ("grey", "white", "beige", "terracotta", "blue"), _BRIGHT, roads=_ROADS[:1],
    ),
    "playground": _Theme(
        ("checker", "grass", "paving", "sand", "deck"),
        {"block": 6, "ball": 4, "column": 2, "pyramid": 2, "arch": 2, "dome": 1, "obelisk": 1, "tree": 1},
        _BRIGHT, _BRIGHT,
    ),
    "desert": _Theme(
        ("sand", "sand", "dirt"),
        {"pyramid": 4, "rock": 5, "obelisk": 2, "column": 2, "dome": 1, "wall": 1, "house": 1, "bush": 1},
        ("beige", "terracotta", "orange", "white"), ("orange", "teal", "red"), roads=_ROADS[1:],
        leaves=(((0.52, 0.56, 0.30), (0.44, 0.54, 0.34)),),
    ),
    "forest": _Theme(
        ("grass", "dirt", "snow", "dry grass"),
        {"tree": 6, "fir": 6, "rock": 3, "bush": 3, "house": 1, "crate": 1},
        ("brown", "beige", "red"), ("brown", "orange"), roads=_ROADS[1:],
        leaves=(_GREENS, _GREENS, _AUTUMN),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """A thing in the scene: its words and the rows of the surface table that it fills."""

    noun: str
    words: tuple[str, ...]
    rows: tuple[int, ...]
    x: float
    z: float


@dataclass(frozen=True)
class Layout:
    """One drawn scene: tables for the renderer and words for the caption."""

    surfaces: np.ndarray  # (NUM_ROWS, NUM_COLS) float32
    environment: np.ndarray  # (NUM_ENV,) float32
    theme: str
    ground: str
    weather: Weather
    things: tuple[Placed, ...]


def empty_surfaces() -> np.ndarray:
    """A surface table without solids: every solid lies deep in the ground, where no ray gets."""
    table = np.zeros((NUM_ROWS, NUM_COLS), np.float32)
    table[:, [Col.HX, Col.HY, Col.HZ, Col.COS]] = 1
    for row in table:
        MATERIALS["plaster"].write(row, (0.6, 0.6, 0.6))
    table[:GROUND, Col.Y] = 1e4
    return table


def draw_layout(draws: Draws, c2w: np.ndarray) -> Layout:
    """Draw a scene around the camera path ``c2w (F, 4, 4)``."""
    surfaces = empty_surfaces()
    theme_name = draws.choice(tuple(THEMES))
    theme = THEMES[theme_name]
    ground = draws.choice(theme.grounds)
    material, colours = GROUNDS[ground]
    material.write(surfaces[GROUND], draws.choice(colours))
    snowy = ground == "snow"
    environment, weather = draw_weather(draws, surfaces, () if snowy and draws.chance(0.5) else theme.roads)
    style = Style(
        night=weather.hour == "night" or (weather.hour == "dusk" and draws.chance(0.5)),
        walls=theme.walls,
        accents=theme.accents,
        leaves=draws.choice(theme.leaves),
        snowy=snowy,
    )
    if snowy:
        style = Style(style.night, style.walls, style.accents, ((0.80, 0.85, 0.90), (0.30, 0.42, 0.34)), True)
    return Layout(surfaces, environment, theme_name, material.word, weather, _place(draws, surfaces, theme, style, c2w))


def _place(draws: Draws, surfaces: np.ndarray, theme: _Theme, style: Style, c2w: np.ndarray) -> tuple[Placed, ...]:
    path = _thin(c2w)
    spots = path[:, [0, 2], 3].astype(np.float64)
    heading = np.arctan2(path[:, 0, 2], path[:, 2, 2])
    grid = draws.between(0, math.pi)
    kinds, weights = tuple(theme.things), np.array(list(theme.things.values()), np.float64)
    weights /= weights.sum()
    free = {shape: list(range(rows.start, rows.stop)) for shape, rows in _SHAPES.items()}
    placed: list[Placed] = []
    discs: list[tuple[float, float, float]] = []
    names = ["hill"] * draws.choice((0, 1, 2, 2)) + [draws.choice(kinds, weights.tolist()) for _ in range(26)]
    random = draws.block(len(names), 3, _CANDIDATES)
    for i, name in enumerate(names):
        thing = MAKERS[name](draws, style)
        need = {shape: sum(p.shape == shape for p in thing.parts) for shape in free}
        if any(len(free[shape]) < count for shape, count in need.items()):
            continue
        spot = _find_spot(thing, random[i], i < 10, spots, heading, discs)
        if spot is None:
            continue
        angle = grid + (draws.integer(0, 3) * math.pi / 2) + draws.between(-0.12, 0.12)
        if draws.chance(0.25):
            angle = draws.between(0, 2 * math.pi)
        rows = tuple(free[part.shape].pop(0) for part in thing.parts)
        for row, part in zip(rows, thing.parts, strict=True):
            cos, sin = math.cos(angle), math.sin(angle)
            x, y, z = part.centre
            surfaces[row, : Col.KZ + 1] = (
                spot[0] + cos * x - sin * z, y, spot[1] + sin * x + cos * z, cos, sin, *part.half, *part.taper,
            )  # fmt: skip
            part.material.write(surfaces[row], part.colour)
        discs.append((spot[0], spot[1], thing.radius))
        placed.append(Placed(thing.noun, thing.words, rows, spot[0], spot[1]))
    return tuple(placed)


def _thin(c2w: np.ndarray) -> np.ndarray:
    """Poses about 0.3 m apart (and the last one): enough to keep things away from the path."""
    travelled = float(np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1).sum())
    count = min(len(c2w), max(8, math.ceil(travelled / 0.3)))
    return c2w[np.linspace(0, len(c2w) - 1, count).round().astype(int)]


def _find_spot(
    thing: Thing,
    random: np.ndarray,
    early: bool,
    spots: np.ndarray,
    heading: np.ndarray,
    discs: list[tuple[float, float, float]],
) -> tuple[float, float] | None:
    """First of some random places near the path where ``thing`` fits; ``random (3, candidates)``."""
    last = len(spots) - 1
    index = np.zeros(_CANDIDATES, np.int64) if early else (random[0] ** 1.3 * (last + 0.999)).astype(np.int64)
    spread = 0.62 if early else 0.9
    bearing = heading[index] + (random[1] * 2 - 1) * spread * (1.0 if thing.noun != "hill" else 3.0)
    low, high = thing.distance
    reach = thing.radius + low + (high - low) * random[2]
    x, z = spots[index, 0] + reach * np.sin(bearing), spots[index, 1] + reach * np.cos(bearing)
    view = np.stack([np.sin(heading), np.cos(heading)], 1)
    kept_free = np.concatenate([spots, spots[::4] + 1.2 * view[::4], spots[-1:] + 2.4 * view[-1:]])
    room = ((x[:, None] - kept_free[:, 0]) ** 2 + (z[:, None] - kept_free[:, 1]) ** 2).min(1)
    fits = room > (thing.radius + CLEARANCE) ** 2
    ahead = np.hypot(x - spots[0, 0], z - spots[0, 1])
    fits &= ahead > thing.radius + 0.6 * low + 0.5  # nothing fills the first view
    if discs:
        other = np.array(discs)
        gap = np.hypot(x[:, None] - other[None, :, 0], z[:, None] - other[None, :, 1]) - other[None, :, 2]
        fits &= (gap > thing.radius + 0.25).all(1)
    found = np.flatnonzero(fits)
    if not len(found):
        return None
    return float(x[found[0]]), float(z[found[0]])
