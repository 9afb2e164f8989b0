"""Where a scene of our own benchmark comes from: a few numbers from which its true video is rendered again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.files import SPLITS, WORLDS, parse_json, read_text
from sana_wm.evaluation.bench.nano.courses import Course
from sana_wm.evaluation.bench.nano.doom_walk import Spot
from sana_wm.settings import config_from_dict


@dataclass(frozen=True)
class DrawnOrigin:
    """A procedural scene.

    Attributes:
        seed: of the scene; laid_out_for: the courses, of both splits, that it was laid out around.
        course: the one taken; scale: d in metres; clearance: metres to the nearest point of the scene along it.
        tries: scenes drawn until one was fit.
    """

    world: Literal["procedural"]
    seed: int
    laid_out_for: tuple[Course, ...]
    course: Course
    scale: float
    clearance: float
    tries: int


@dataclass(frozen=True)
class WalkedOrigin:
    """A walk through a Freedoom level.

    Attributes:
        course: the one walked from the spot; scale: d in metres; clearance: metres to the nearest wall along it.
        dealt: the template that should have been walked; that of the course, unless no place had room for it.
        tries: places looked at until one was fit.
        engine: version of the game engine.
    """

    world: Literal["freedoom"]
    spot: Spot
    course: Course
    scale: float
    clearance: float
    dealt: str
    tries: int
    engine: str


Origin = DrawnOrigin | WalkedOrigin


@dataclass(frozen=True)
class MadePath:
    """One split's part of a scene: poses (F,4,4) float64 from the identity, what they see, and where it comes from."""

    c2w: Tensor
    prompt: str
    origin: Origin


@dataclass(frozen=True)
class MadeScene:
    """A new scene: its first frame (3,H,W) uint8, intrinsics (4,) of every frame in its pixels, a path a split."""

    image: Tensor
    intrinsics: Tensor
    paths: dict[str, MadePath]


def origin_to_dict(origin: Origin) -> dict[str, Any]:
    """Plain values for JSON."""
    return asdict(origin)


def read_origins(root: Path, split: str) -> dict[str, Origin]:
    """Origins of a split by scene id; raises :class:`InputError` if the benchmark has none or they are not readable."""
    path = root / SPLITS[split] / WORLDS
    if not path.is_file():
        raise InputError(
            f"'{path}' is missing, so nothing is known of the true videos of '{root}'; only a benchmark made here has "
            "them."
        )
    value = parse_json(read_text(path, "world file"), f"world file '{path}'")
    if not isinstance(value, dict):
        raise InputError(f"world file '{path}' is no object of scenes.")
    return {scene: _origin(entry, f"scene {scene} of world file '{path}'") for scene, entry in value.items()}


def _origin(entry: Any, where: str) -> Origin:
    kinds: dict[Any, type[DrawnOrigin] | type[WalkedOrigin]] = {"procedural": DrawnOrigin, "freedoom": WalkedOrigin}
    world = entry.get("world") if isinstance(entry, dict) else None
    if not isinstance(world, str) or world not in kinds:
        raise InputError(f"{where} has the world {world!r}; it must be one of {', '.join(kinds)}.")
    return config_from_dict(kinds[world], entry, where)
