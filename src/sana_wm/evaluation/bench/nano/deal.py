"""Which scenes a benchmark of ours holds and which template each runs: fixed, so that every template is run as often.

Four categories, like the published benchmark's: three kinds of procedural scene, and Freedoom. Of 80 scenes each is 20,
and each of the 20 templates is run by 8 scenes. A Freedoom player neither flies nor looks up, so the hard templates
that do are dealt to procedural scenes only, twice as often there as the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.nano.templates import HARD_TEMPLATES, SIMPLE_TEMPLATES
from sana_wm.evaluation.held_out import FREEDOOM, PROCEDURAL

MOST_SCENES, MOST_SEED = 80, 99
FIRST_INDEX = 2**19 + 2**12
"""First index, within the test split, of the procedural scenes of benchmarks: behind those of the other measures."""
TRIES = 64
"""Procedural scenes that may be drawn for one scene of the benchmark, each with an index of its own."""
MOST_OF_A_CATEGORY = 27
"""Scenes of one procedural category: a third of 80."""


@dataclass(frozen=True)
class Category:
    """A kind of scene: a world, and in the procedural one the themes that belong to it."""

    name: str
    world: str
    themes: tuple[str, ...] = ()


CATEGORIES = (
    Category("town", PROCEDURAL, ("village", "city", "yard")),
    Category("nature", PROCEDURAL, ("park", "forest", "desert")),
    Category("shapes", PROCEDURAL, ("playground", "ruins")),
    Category("indoor", FREEDOOM),
)
_DRAWN = tuple(category for category in CATEGORIES if category.world == PROCEDURAL)

LEVEL_HARD = tuple(template.name for template in HARD_TEMPLATES if template.level)
"""Hard templates that a walker can run."""
_DRAWN_HARD = (
    "crane_up_down", "whip_pan", "pitch_extreme", "spiral_climb", "double_loop", "dive_and_rise", "compound",
    "zigzag_yaw", "crane_up_down", "pitch_extreme", "back_and_turn", "spiral_climb", "dive_and_rise", "loop_with_pan",
    "compound",
)  # fmt: skip


@dataclass(frozen=True)
class Dealt:
    """A scene to make: its category, its number within it (from 0), and a template for each split."""

    category: Category
    number: int
    templates: dict[str, str]

    @property
    def scene_id(self) -> str:
        """`<category>_<nnn>`, counted from 001."""
        return f"{self.category.name}_{self.number + 1:03d}"


def deal(scenes: int, worlds: Sequence[str]) -> list[Dealt]:
    """`scenes` scenes, spread evenly over the categories of `worlds`, category by category.

    A scene is the same whatever the number of scenes. Raises :class:`InputError` for an unknown world, none, or a
    number of scenes outside 1 to 80.
    """
    unknown = sorted(set(worlds) - {PROCEDURAL, FREEDOOM})
    if unknown or not worlds:
        raise InputError(f"worlds is {tuple(worlds)}; it must name {PROCEDURAL}, {FREEDOOM} or both.")
    if not 1 <= scenes <= MOST_SCENES:
        raise InputError(f"scenes is {scenes}; a benchmark holds 1 to {MOST_SCENES}.")
    found = [category for category in CATEGORIES if category.world in worlds]
    counts = [scenes // len(found) + (i < scenes % len(found)) for i in range(len(found))]
    return [
        Dealt(category, number, {"simple": _simple(category, number), "hard": _hard(category, number)})
        for category, count in zip(found, counts, strict=True)
        for number in range(count)
    ]


def first_index(dealt: Dealt, seed: int) -> int:
    """Index in the test split of the first procedural scene to try; every scene of every seed has its own."""
    if not 0 <= seed <= MOST_SEED:
        raise InputError(f"seed is {seed}; it must lie between 0 and {MOST_SEED}.")
    place = (seed * len(_DRAWN) + _DRAWN.index(dealt.category)) * MOST_OF_A_CATEGORY + dealt.number
    return FIRST_INDEX + place * TRIES


def _simple(category: Category, number: int) -> str:
    shift = 3 * CATEGORIES.index(category)  # few scenes of each category still see most templates
    return SIMPLE_TEMPLATES[(number + shift) % len(SIMPLE_TEMPLATES)].name


def _hard(category: Category, number: int) -> str:
    if category.world == FREEDOOM:
        return LEVEL_HARD[number % len(LEVEL_HARD)]
    # Three categories share the list, and every five scenes they change places in it, so that each sees all of it.
    turn = (_DRAWN.index(category) + number // 5) % len(_DRAWN)
    return _DRAWN_HARD[(len(_DRAWN) * number + turn) % len(_DRAWN_HARD)]
