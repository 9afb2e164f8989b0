"""Named colours and surface materials of the procedural scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sana_wm.worlds.procedural.scene import Col

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (0.78, 0.26, 0.22),
    "orange": (0.90, 0.53, 0.22),
    "yellow": (0.92, 0.78, 0.34),
    "green": (0.36, 0.62, 0.34),
    "teal": (0.24, 0.60, 0.60),
    "blue": (0.28, 0.46, 0.78),
    "purple": (0.54, 0.36, 0.68),
    "pink": (0.90, 0.58, 0.64),
    "white": (0.90, 0.89, 0.86),
    "grey": (0.58, 0.59, 0.61),
    "dark grey": (0.34, 0.35, 0.38),
    "brown": (0.52, 0.36, 0.24),
    "beige": (0.84, 0.75, 0.60),
    "terracotta": (0.76, 0.44, 0.31),
}
"""Colour words and their reflectance."""


@dataclass(frozen=True)
class Material:
    """A texture: bars along u and v, cell tints, noise. Fields are the columns of the same name in ``scene.Col``."""

    word: str
    period: tuple[float, float] = (1.0, 1.0)
    share: tuple[float, float] = (0.0, 0.0)
    mix: tuple[float, float, float] = (0.0, 0.0, 0.0)
    phase: float = 0.0
    shift: float = 0.0
    tint: float = 0.0
    mottle: float = 0.08
    grain: float = 0.6
    patch: float = 0.0
    glow: float = 0.0
    second: Colour | float = 0.7  # a colour, or a factor on the base colour

    def with_second(self, second: Colour, glow: float = 0.0) -> Material:
        """The same texture with another pattern colour (and glow)."""
        return replace(self, second=second, glow=glow)

    def scaled(self, factor: float) -> Material:
        """The same texture with its pattern ``factor`` times as large."""
        return replace(self, period=(self.period[0] * factor, self.period[1] * factor))

    def write(self, row: np.ndarray, base: Colour) -> None:
        """Fill the material columns of one row of a surface table."""
        second = self.second if isinstance(self.second, tuple) else tuple(self.second * c for c in base)
        row[Col.R1 : Col.GLOW + 1] = (
            *base, *second, *self.period, *self.share, *self.mix,
            self.phase, self.shift, self.tint, self.mottle, self.grain, self.patch, self.glow,
        )  # fmt: skip


MATERIALS: dict[str, Material] = {
    "plaster": Material("plastered", mottle=0.09, grain=0.9),
    "brick": Material(
        "brick", (0.62, 0.30), (0.07, 0.14), (1, 1, -1), shift=0.5, tint=0.30, mottle=0.06, second=(0.80, 0.77, 0.71)
    ),
    "block": Material("stone", (0.95, 0.55), (0.05, 0.08), (1, 1, -1), shift=0.5, tint=0.22, mottle=0.12, second=0.62),
    "planks": Material("wooden", (0.32, 1.0), (0.10, 0.0), (1, 0, 0), tint=0.26, mottle=0.08, grain=0.4, second=0.55),
    "boards": Material("boarded", (1.0, 0.36), (0.0, 0.10), (0, 1, 0), tint=0.22, mottle=0.07, second=0.58),
    "crate": Material("wooden", (0.42, 0.42), (0.12, 0.12), (1, 1, -1), tint=0.16, mottle=0.08, second=0.58),
    "stripes": Material("striped", (0.9, 1.0), (0.5, 0.0), (1, 0, 0), mottle=0.05, second=(0.90, 0.89, 0.86)),
    "bands": Material("banded", (1.0, 0.8), (0.0, 0.5), (0, 1, 0), mottle=0.05, second=(0.90, 0.89, 0.86)),
    "checker": Material("checkered", (1.0, 1.0), (0.5, 0.5), (1, 1, -2), mottle=0.05, second=(0.90, 0.89, 0.86)),
    "panels": Material("panelled", (1.1, 1.1), (0.05, 0.05), (1, 1, -1), tint=0.20, mottle=0.06, second=0.6),
    "corrugated": Material("metal", (0.28, 1.0), (0.42, 0.0), (1, 0, 0), mottle=0.05, grain=1.2, second=0.76),
    "windows": Material(
        "windowed", (1.6, 1.5), (0.46, 0.52), (0, 0, 1), phase=0.5, mottle=0.07, second=(0.25, 0.31, 0.40)
    ),
    "shingles": Material(
        "tiled", (0.42, 0.38), (0.08, 0.16), (0.5, 1, -0.5), shift=0.5, tint=0.22, mottle=0.08, second=0.62
    ),
    "marble": Material("marble", mottle=0.12, grain=0.5, patch=0.45, second=0.8),
    "bark": Material("bark", (0.16, 1.0), (0.3, 0.0), (0.7, 0, 0), mottle=0.2, grain=0.3, second=0.65),
    "foliage": Material("leafy", mottle=0.38, grain=0.34, patch=0.55, second=0.62),
    "rock": Material("rocky", mottle=0.24, grain=0.55, patch=0.5, second=0.78),
    "meadow": Material("grassy", mottle=0.16, grain=3.0, patch=0.6, second=0.78),
}
"""Materials of solids."""

GROUNDS: dict[str, tuple[Material, tuple[Colour, ...]]] = {
    "grass": (
        Material("grass", mottle=0.22, grain=0.9, patch=0.75, second=(0.52, 0.56, 0.30)),
        ((0.36, 0.56, 0.26), (0.42, 0.60, 0.30), (0.30, 0.50, 0.28)),
    ),
    "dry grass": (
        Material("dry grass", mottle=0.2, grain=1.0, patch=0.8, second=(0.60, 0.52, 0.34)),
        ((0.70, 0.64, 0.36), (0.62, 0.60, 0.34)),
    ),
    "sand": (
        Material("sand", (4.0, 2.2), (0.0, 0.5), (0, 0.25, 0), mottle=0.10, grain=1.3, patch=0.3, second=0.86),
        ((0.88, 0.76, 0.54), (0.84, 0.68, 0.46), (0.90, 0.82, 0.64)),
    ),
    "snow": (
        Material("snow", mottle=0.06, grain=1.6, patch=0.5, second=(0.70, 0.76, 0.84)),
        ((0.82, 0.84, 0.87),),
    ),
    "dirt": (
        Material("bare earth", mottle=0.22, grain=0.8, patch=0.6, second=0.8),
        ((0.56, 0.44, 0.32), (0.50, 0.38, 0.28), (0.62, 0.46, 0.34)),
    ),
    "paving": (
        Material("paving stones", (1.0, 1.0), (0.05, 0.05), (1, 1, -1), tint=0.22, mottle=0.08, grain=0.7, second=0.66),
        ((0.66, 0.65, 0.62), (0.70, 0.64, 0.56), (0.55, 0.58, 0.62)),
    ),
    "cobbles": (
        Material("brick paving", (0.8, 0.4), (0.06, 0.11), (1, 1, -1), shift=0.5, tint=0.26, mottle=0.08, second=0.68),
        ((0.66, 0.42, 0.34), (0.60, 0.54, 0.48)),
    ),
    "checker": (
        Material("checkered tiles", (2.4, 2.4), (0.5, 0.5), (1, 1, -2), mottle=0.05, second=(0.86, 0.85, 0.82)),
        ((0.46, 0.52, 0.60), (0.62, 0.40, 0.36), (0.38, 0.52, 0.46), (0.70, 0.60, 0.46)),
    ),
    "deck": (
        Material("wooden planks", (0.5, 1.0), (0.07, 0.0), (1, 0, 0), tint=0.24, mottle=0.08, grain=0.6, second=0.55),
        ((0.66, 0.48, 0.32), (0.58, 0.46, 0.36)),
    ),
    "asphalt": (
        Material("asphalt", mottle=0.12, grain=0.9, patch=0.4, second=0.86),
        ((0.40, 0.41, 0.43), (0.46, 0.45, 0.44)),
    ),
}
"""Grounds: texture and the base colours that it comes in."""
