"""The things that stand in a procedural scene: houses, trees, crates, columns and so on, each made of one to three
solids.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.materials import COLOURS, MATERIALS, Colour, Material

Vec3 = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """One solid: which kind of row it takes, where it lies in the thing's own frame (base at ``y = 0``), and its
    looks.
    """

    shape: str  # "box", "wedge", "column" or "ball"
    centre: Vec3
    half: Vec3
    material: Material
    colour: Colour
    taper: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Thing:
    """A thing before it is placed: words for the caption, its parts, and how much room it takes on the ground."""

    noun: str
    words: tuple[str, ...]  # adjectives: colour, material
    parts: tuple[Part, ...]
    radius: float
    distance: tuple[float, float] = (2.5, 12.0)  # from the path to its rim, metres


@dataclass(frozen=True)
class Style:
    """Choices that the things of one scene share, so that a scene looks of a piece."""

    night: bool
    walls: tuple[str, ...]  # colour words
    accents: tuple[str, ...]
    leaves: tuple[Colour, ...]
    snowy: bool = False
    trim: dict[str, float] = field(default_factory=dict)


def _colour(draws: Draws, name: str) -> Colour:
    base = COLOURS[name]
    gain = draws.between(0.92, 1.08)
    return (min(1.0, base[0] * gain), min(1.0, base[1] * gain), min(1.0, base[2] * gain))


def _windows(draws: Draws, style: Style, period: tuple[float, float]) -> Material:
    lit = style.night and draws.chance(0.9)
    glass: Colour = (
        (1.0, 0.80, 0.42) if lit else draws.choice(((0.25, 0.31, 0.40), (0.36, 0.46, 0.55), (0.20, 0.22, 0.26)))
    )
    material = MATERIALS["windows"].with_second(glass, 0.85 if lit else 0.0)
    shares = draws.choice(((0.46, 0.52), (0.36, 0.60), (0.62, 0.42)))
    return Material(**{**material.__dict__, "period": period, "share": shares})


def _house(draws: Draws, style: Style) -> Thing:
    floors = draws.integer(1, 2)
    period = (draws.between(1.4, 1.9), draws.between(1.7, 2.1))
    hx, hz, hy = draws.integer(2, 4) * period[0] / 2, draws.integer(2, 3) * period[0] / 2, floors * period[1] / 2
    name = draws.choice(style.walls)
    wall = Part("box", (0, -hy, 0), (hx, hy, hz), _windows(draws, style, period), _colour(draws, name))
    roof_name = draws.choice(("terracotta", "brown", "dark grey", "red", "teal"))
    roof_colour = (0.82, 0.85, 0.88) if style.snowy else _colour(draws, roof_name)
    hipped = draws.chance(0.4)
    over, rise = 1.10, draws.between(0.35, 0.6) * hz
    taper = (draws.choice((0.0, 0.45)) if hipped else 0.0, 0.97)
    roof = Part(
        "wedge", (0, -2 * hy - rise, 0), (hx * over, rise, hz * over), MATERIALS["shingles"], roof_colour, taper
    )
    noun = draws.choice(("house", "cottage") if floors == 1 else ("house", "two-storey house"))
    return Thing(noun, (name,), (wall, roof), math.hypot(hx, hz), (3.0, 13.0))


def _tower(draws: Draws, style: Style) -> Thing:
    name = draws.choice(style.walls)
    if draws.chance(0.55):
        period = (draws.between(1.2, 1.7), draws.between(1.5, 1.9))
        hx, hz = draws.integer(2, 3) * period[0] / 2, draws.integer(2, 3) * period[0] / 2
        hy = draws.integer(3, 6) * period[1] / 2
        body = Part("box", (0, -hy, 0), (hx, hy, hz), _windows(draws, style, period), _colour(draws, name))
        noun = "tower block" if hy > 3.6 else "building"
        return Thing(noun, (name,), (body,), math.hypot(hx, hz), (4.0, 16.0))
    half, hy = draws.between(0.9, 1.7), draws.between(2.2, 4.0)
    material = MATERIALS[draws.choice(("brick", "block", "bands"))]
    body = Part("box", (0, -hy, 0), (half, hy, half), material, _colour(draws, name))
    rise = draws.between(0.5, 1.0)
    cap = Part(
        "wedge", (0, -2 * hy - rise, 0), (half * 1.15, rise, half * 1.15), MATERIALS["shingles"],
        _colour(draws, draws.choice(("terracotta", "dark grey", "teal", "red"))), (1.0, 1.0),
    )  # fmt: skip
    return Thing("tower", (name, material.word), (body, cap), 1.42 * half, (3.0, 14.0))


def _crate(draws: Draws, style: Style) -> Thing:
    half = draws.between(0.35, 0.75)
    name = draws.choice(("brown", "beige", "orange", *style.accents))
    material = MATERIALS[draws.choice(("crate", "planks", "boards"))]
    base = Part("box", (0, -half, 0), (half, half, half * draws.between(0.8, 1.2)), material, _colour(draws, name))
    if draws.chance(0.3):
        top = half * draws.between(0.55, 0.8)
        upper = Part("box", (0.1, -2 * half - top, -0.05), (top, top, top), material, _colour(draws, name))
        return Thing("stack of crates", (name, material.word), (base, upper), 1.5 * half, (1.2, 7.0))
    return Thing("crate", (name, material.word), (base,), 1.5 * half, (1.0, 7.0))


def _block(draws: Draws, style: Style) -> Thing:
    half = (draws.between(0.5, 1.1), draws.between(0.5, 1.3), draws.between(0.5, 1.1))
    name = draws.choice(style.accents)
    material = MATERIALS[draws.choice(("checker", "stripes", "bands", "panels", "plaster"))]
    part = Part("box", (0, -half[1], 0), half, material.scaled(draws.between(0.6, 1.0)), _colour(draws, name))
    noun = "cube" if max(half) / min(half) < 1.35 else "block"
    return Thing(noun, (name, material.word), (part,), math.hypot(half[0], half[2]), (1.5, 9.0))


def _wall(draws: Draws, style: Style) -> Thing:
    half = (draws.between(1.8, 4.0), draws.between(0.5, 1.3), draws.between(0.12, 0.25))
    material = MATERIALS[draws.choice(("brick", "block", "planks", "plaster"))]
    name = draws.choice(("red", "terracotta", "brown") if material.word == "brick" else style.walls)
    noun = "fence" if material.word == "wooden" else ("low wall" if half[1] < 0.75 else "wall")
    part = Part("box", (0, -half[1], 0), half, material, _colour(draws, name))
    return Thing(noun, (name, material.word), (part,), half[0] * 0.9, (1.8, 11.0))


def _container(draws: Draws, style: Style) -> Thing:
    name = draws.choice(("red", "blue", "green", "orange", "teal", "yellow"))
    half = (draws.between(1.8, 3.0), 1.25, 1.2)
    part = Part("box", (0, -half[1], 0), half, MATERIALS["corrugated"], _colour(draws, name))
    return Thing("container", (name, "metal"), (part,), math.hypot(half[0], half[2]), (2.5, 12.0))


def _arch(draws: Draws, style: Style) -> Thing:
    gap, leg, hy = draws.between(0.9, 1.5), draws.between(0.25, 0.4), draws.between(1.2, 1.7)
    material = MATERIALS[draws.choice(("block", "brick", "plaster", "bands"))]
    name = draws.choice(style.walls)
    colour = _colour(draws, name)
    legs = [Part("box", (s * (gap + leg), -hy, 0), (leg, hy, leg), material, colour) for s in (-1.0, 1.0)]
    beam = Part("box", (0, -2 * hy - 0.25, 0), (gap + 2.3 * leg, 0.25, leg * 1.1), material, colour)
    return Thing("gateway", (name, material.word), (*legs, beam), gap + 2 * leg, (2.5, 9.0))


def _tree(draws: Draws, style: Style) -> Thing:
    height, girth = draws.between(0.7, 1.3), draws.between(0.12, 0.24)
    leaves = draws.choice(style.leaves)
    trunk = Part("column", (0, -height, 0), (girth, height, girth), MATERIALS["bark"], (0.44, 0.33, 0.25))
    crown = draws.between(0.9, 1.7)
    tall = crown * draws.between(0.75, 1.5)
    parts = [trunk, Part("ball", (0, -2 * height - 0.7 * tall, 0), (crown, tall, crown), MATERIALS["foliage"], leaves)]
    if draws.chance(0.35):
        small = crown * 0.65
        parts.append(
            Part(
                "ball",
                (0.6 * crown, -2 * height - 0.35 * tall, 0.3),
                (small, small, small),
                MATERIALS["foliage"],
                leaves,
            )
        )
    return Thing("tree", (_leaf_word(leaves),), tuple(parts), 0.75 * crown, (1.6, 11.0))


def _fir(draws: Draws, style: Style) -> Thing:
    half, rise = draws.between(0.8, 1.4), draws.between(1.2, 2.3)
    colour = (0.80, 0.86, 0.88) if style.snowy else draws.choice(((0.20, 0.38, 0.28), (0.26, 0.44, 0.30)))
    trunk = Part("column", (0, -0.35, 0), (0.15, 0.36, 0.15), MATERIALS["bark"], (0.40, 0.30, 0.23))
    cone = Part("wedge", (0, -0.7 - rise, 0), (half, rise, half), MATERIALS["foliage"], colour, (0.98, 0.98))
    return Thing("fir tree", ("snowy",) if style.snowy else ("dark green",), (trunk, cone), half, (1.6, 11.0))


def _bush(draws: Draws, style: Style) -> Thing:
    half = draws.between(0.4, 0.9)
    leaves = draws.choice(style.leaves)
    part = Part("ball", (0, -0.55 * half, 0), (half, 0.8 * half, half * 1.1), MATERIALS["foliage"], leaves)
    return Thing("bush", (_leaf_word(leaves),), (part,), half, (1.0, 7.0))


def _rock(draws: Draws, style: Style) -> Thing:
    half = (draws.between(0.4, 1.3), draws.between(0.35, 0.9), draws.between(0.4, 1.2))
    name = draws.choice(("grey", "dark grey", "beige"))
    part = Part("ball", (0, -0.3 * half[1], 0), half, MATERIALS["rock"], _colour(draws, name))
    return Thing("boulder" if half[0] > 0.8 else "rock", (name,), (part,), max(half[0], half[2]), (1.0, 8.0))


def _ball(draws: Draws, style: Style) -> Thing:
    half = draws.between(0.5, 1.1)
    name = draws.choice(style.accents)
    material = MATERIALS[draws.choice(("bands", "marble", "plaster"))].scaled(0.7)
    part = Part("ball", (0, -half, 0), (half, half, half), material, _colour(draws, name))
    return Thing("sphere", (name, material.word), (part,), half, (1.2, 8.0))


def _dome(draws: Draws, style: Style) -> Thing:
    half = draws.between(1.6, 3.2)
    name = draws.choice(style.walls)
    material = MATERIALS[draws.choice(("block", "bands", "plaster"))]
    part = Part("ball", (0, 0, 0), (half, half * draws.between(0.8, 1.1), half), material, _colour(draws, name))
    return Thing("dome", (name, material.word), (part,), half, (3.0, 13.0))


def _column(draws: Draws, style: Style) -> Thing:
    girth, hy = draws.between(0.22, 0.5), draws.between(1.0, 2.2)
    material = MATERIALS[draws.choice(("block", "marble", "bands", "brick", "plaster"))].scaled(0.7)
    name = draws.choice(style.walls)
    colour = _colour(draws, name)
    shaft = Part("column", (0, -hy, 0), (girth, hy, girth), material, colour)
    if draws.chance(0.4):
        slab = Part("box", (0, -2 * hy - 0.12, 0), (girth * 1.4, 0.12, girth * 1.4), MATERIALS["plaster"], colour)
        return Thing("column", (name, material.word), (shaft, slab), 1.5 * girth, (1.2, 9.0))
    return Thing("column", (name, material.word), (shaft,), girth, (1.2, 9.0))


def _barrel(draws: Draws, style: Style) -> Thing:
    girth = draws.between(0.3, 0.42)
    name = draws.choice(style.accents)
    part = Part("column", (0, -0.5, 0), (girth, 0.5, girth), MATERIALS["bands"].scaled(0.5), _colour(draws, name))
    return Thing("barrel", (name,), (part,), girth, (1.0, 6.0))


def _silo(draws: Draws, style: Style) -> Thing:
    girth, hy = draws.between(1.1, 1.9), draws.between(1.8, 3.2)
    name = draws.choice(style.walls)
    material = MATERIALS[draws.choice(("boards", "block", "bands"))]
    body = Part("column", (0, -hy, 0), (girth, hy, girth), material, _colour(draws, name))
    cap = Part(
        "ball", (0, -2 * hy, 0), (girth, girth * 0.7, girth), MATERIALS["plaster"],
        _colour(draws, draws.choice(("grey", "dark grey", "red"))),
    )  # fmt: skip
    return Thing("silo" if material.word == "boarded" else "round tower", (name,), (body, cap), girth, (3.0, 13.0))


def _pyramid(draws: Draws, style: Style) -> Thing:
    half = draws.between(1.2, 3.4)
    rise = half * draws.between(0.55, 0.9)
    name = draws.choice(style.walls)
    material = MATERIALS[draws.choice(("block", "boards", "plaster"))]
    part = Part("wedge", (0, -rise, 0), (half, rise, half), material, _colour(draws, name), (1.0, 1.0))
    return Thing("pyramid", (name, material.word), (part,), 1.35 * half, (2.5, 13.0))


def _obelisk(draws: Draws, style: Style) -> Thing:
    half, hy = draws.between(0.35, 0.6), draws.between(1.2, 2.6)
    name = draws.choice(style.walls)
    material = MATERIALS[draws.choice(("block", "marble", "brick"))]
    part = Part("wedge", (0, -hy, 0), (half, hy, half), material.scaled(0.8), _colour(draws, name), (0.55, 0.55))
    return Thing("obelisk", (name, material.word), (part,), 1.42 * half, (1.5, 10.0))


def _hill(draws: Draws, style: Style) -> Thing:
    half = (draws.between(14, 32), draws.between(2.5, 7), draws.between(14, 26))
    colour = (0.80, 0.83, 0.87) if style.snowy else draws.choice(style.leaves)
    colour = (0.85 * colour[0] + 0.06, 0.85 * colour[1] + 0.06, 0.85 * colour[2] + 0.05)
    part = Part("ball", (0, 0, 0), half, MATERIALS["meadow"], colour)
    return Thing("hill", ("snowy",) if style.snowy else (), (part,), max(half[0], half[2]), (22.0, 60.0))


def _leaf_word(colour: Colour) -> str:
    red, green, blue = colour
    if blue > red:
        return "white" if blue > 0.7 else "dark green"
    if green >= red and green > blue:
        return "green" if green > 0.45 else "dark green"
    return "golden" if green > 0.5 > blue else ("pink" if blue > 0.5 else "red")


MAKERS: dict[str, Callable[[Draws, Style], Thing]] = {
    "house": _house,
    "tower": _tower,
    "crate": _crate,
    "block": _block,
    "wall": _wall,
    "container": _container,
    "arch": _arch,
    "tree": _tree,
    "fir": _fir,
    "bush": _bush,
    "rock": _rock,
    "ball": _ball,
    "dome": _dome,
    "column": _column,
    "barrel": _barrel,
    "silo": _silo,
    "pyramid": _pyramid,
    "obelisk": _obelisk,
    "hill": _hill,
}
"""How to draw every kind of thing."""
