"""Captions of what is in sight, from the plan of the level and the pixels; never a word about the camera."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sana_wm.worlds.doom.level import Floats, Level, cast

_SIGHT = 1536.0
_FLOOR_SIGHT = 256.0
_METRE = 32.0
# The first fragment found in a texture's name says what the picture on the wall is.
_WALLS = {
    "BRIK": "brick", "BRICK": "brick", "BRBK": "brick", "PBRK": "brick", "MOSBK": "mossy brick", "DBRI": "dark brick",
    "ROCK": "rock", "ASHWALL": "rock", "TANROCK": "rock", "ZIMMER": "rock", "DIRT": "earth", "GSTONE": "green stone",
    "GSTVINE": "vine-covered stone", "STONE": "stone", "ICKWALL": "concrete block", "CEMENT": "concrete",
    "CONC": "concrete", "MARB": "marble", "WOODMET": "wood and metal", "WOOD": "wood", "PANEL": "wood panel",
    "CRATE": "crate", "COMP": "computer panel", "TEK": "technical panel", "METAL": "metal", "METL": "metal",
    "SUPPORT": "metal", "SHAWN": "metal", "SILVER": "silver metal", "BRONZE": "bronze", "RUST": "rusty metal",
    "PIPE": "pipe", "STAR": "plain panel", "SPACEW": "metal", "GRAY": "grey stone", "BROWN": "brown metal",
    "BROVINE": "vine-covered metal", "BRN": "brown metal", "SLAD": "grey panel", "SKIN": "flesh", "SKSNAKE": "flesh",
    "FIRE": "burning", "SFALL": "slime", "BFALL": "blood", "WFALL": "waterfall", "SP_HOT": "red stone",
    "REDWALL": "red stone", "LITE": "light panel",
}  # fmt: skip
_FLOORS = {
    "WATER": "a pool of water", "NUKAGE": "green slime", "SLIME": "slime", "LAVA": "glowing lava",
    "BLOOD": "a pool of blood", "GRASS": "grass", "RROCK": "rocky ground", "MFLR": "dirt ground",
}  # fmt: skip
_COLOURS = (
    (15, "red"),
    (42, "brown and orange"),
    (70, "yellow"),
    (165, "green"),
    (200, "cyan"),
    (260, "blue"),
    (345, "purple"),
)


def _named(names: list[str], words: dict[str, str]) -> list[str]:
    """Words for the texture ``names``, the commonest first."""
    found = Counter[str]()
    for name in names:
        found.update([next((word for key, word in words.items() if key in name), "")])
    found.pop("", None)
    return [word for word, _ in found.most_common()]


def _colour(frames: NDArray[np.uint8]) -> str:
    """The commonest colour of pixels ``(F, 3, H, W)`` uint8."""
    rgb = frames[:, :, ::4, ::4].transpose(0, 2, 3, 1).reshape(-1, 3).astype(np.float64)
    high, low = rgb.max(axis=1), rgb.min(axis=1)
    vivid = (high - low) > np.maximum(0.22 * high, 8)
    if vivid.mean() < 0.35:
        return "grey"
    r, g, b = rgb[vivid].T
    hue = np.degrees(np.arctan2(np.sqrt(3) * (g - b), 2 * r - g - b)) % 360
    counts = Counter(next((name for limit, name in _COLOURS if value < limit), "red") for value in hue[::3])
    return counts.most_common(1)[0][0]


@dataclass(frozen=True)
class Sight:
    """What rays fanned over the field of view meet.

    Attributes:
        distance: ``(rays,)`` float64 map units to the first wall.
        walls, floors: names of the textures of the walls hit and of the floors before them.
        sky_share: share of points before the walls that lie under the open sky.
    """

    distance: Floats
    walls: list[str]
    floors: list[str]
    sky_share: float


def sight(level: Level, place: Floats, heading: float, half_fov: float, rays: int = 32) -> Sight:
    """Return what is in sight of ``place`` (map units) within ``half_fov`` (radians) of ``heading`` (radians)."""
    angles = heading + np.linspace(-half_fov, half_fov, rays)
    lines = level.near(place, _SIGHT, level.opaque(place))
    distance, index = cast(place, angles, level.plan.ends[lines], _SIGHT)
    hit = level.plan.textures[lines[index[index >= 0]]]
    directions = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    # Floors near the viewer fill the lower half of the picture; the sky shows wherever any place on the way is open.
    shares = np.linspace(0.05, 0.95, 8)[:, None, None]
    sectors = level.sector_at((place + shares * (directions * distance[:, None])).reshape(-1, 2)).reshape(8, rays)
    close = shares[:, 0] * distance < _FLOOR_SIGHT
    return Sight(
        distance=distance,
        walls=[str(name) for name in hit.ravel() if name not in {"-", ""}],
        floors=[str(level.plan.floor_flat[s]) for s in sectors[close & (sectors >= 0)]],
        sky_share=float(level.sky[sectors[sectors >= 0]].mean()) if (sectors >= 0).any() else 0.0,
    )


def caption(
    frames: NDArray[np.uint8],
    walls: list[str],
    floors: list[str],
    mean_distance: float,
    sky_share: float,
    rng: np.random.Generator,
) -> str:
    """Return one English sentence of about 10 to 25 words.

    Args:
        frames: ``(F, 3, H, W)`` uint8, a few frames of the clip.
        walls, floors: texture names in sight.
        mean_distance: mean distance of the walls in sight, map units.
        sky_share: share of the places passed and seen that lie under the open sky.
        rng: chooses the wording.
    """

    def pick(*words: str) -> str:
        return str(rng.choice(words))

    light = float(frames.mean())
    brightness = (
        pick("dark", "gloomy") if light < 48 else pick("dim", "dimly lit") if light < 80 else pick("bright", "well lit")
    )
    metres = mean_distance / _METRE
    size = (
        pick("narrow", "cramped")
        if metres < 4
        else pick("medium-sized", "plain")
        if metres < 10
        else pick("large", "spacious")
    )
    if sky_share > 0.5:
        where = pick("outdoor courtyard", "open yard", "outdoor area") + pick(" under the sky", " below an open sky")
    elif sky_share > 0.1:
        where = pick("hall", "room", "building") + pick(" that opens to the sky", " with a view outside")
    else:
        where = pick("corridor", "passage") if metres < 4 else pick("room", "chamber", "hall")
    materials = _named(walls, _WALLS)[:2]
    wall = f"{' and '.join(materials)} walls" if materials else pick("textured walls", "patterned walls")
    ground = _named(floors, _FLOORS)
    extra = f", with {ground[0]} on the floor" if ground else ""
    tone = pick("in {} tones", "mostly {}", "with {} colours").format(_colour(frames))
    style = pick(
        "a retro first-person game", "an old pixelated 3D game", "a 1990s style shooter level", "a pixel-art game level"
    )
    scene = f"{size} {brightness} {where}" if rng.random() < 0.5 else f"{brightness}, {size} {where}"
    article = "An" if scene[0] in "aeiou" else "A"
    if rng.random() < 0.5:
        return f"{article} {scene} in {style}, {wall}{extra}, {tone}."
    return f"{style[0].upper()}{style[1:]}: {article.lower()} {scene} with {wall}{extra}, {tone}."
