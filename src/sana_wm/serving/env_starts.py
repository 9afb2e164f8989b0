"""With what an episode begins: a picture, a sentence about it and a lens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt
from torch import Tensor

from sana_wm.engine.example import load_example
from sana_wm.engine.image_input import ImageSource
from sana_wm.errors import InputError
from sana_wm.worlds.procedural import Renderer, SceneAndPath, draw, lens_intrinsics, render_drawn
from sana_wm.worlds.splits import PROCEDURAL_SEEDS, split_seed

OPTIONS = ("image", "prompt", "intrinsics", "fov")
SCENE_FRAMES = 81
"""Length of the path around which a scene is laid out; the length of the clips that nano has seen."""


@dataclass(frozen=True)
class Start:
    """Of `intrinsics` (pixels of the image) and `fov` (degrees) at most one; with neither a usual lens is assumed.

    scene: what the picture is a picture of, where somebody knows; its first pose is the camera's.
    """

    image: ImageSource
    prompt: str
    intrinsics: Tensor | npt.ArrayLike | None = None
    fov: float | None = None
    scene: SceneAndPath | None = None

    def changed(self, options: Mapping[str, Any]) -> Start:
        """With what `options` hold in its place.

        Raises:
            InputError: they hold something else, both lenses, or a picture without a sentence about it.
        """
        check_options(options)
        if options.get("image") is not None:
            if options.get("prompt") is None:
                raise InputError("options hold an image but no prompt; describe the image in a sentence.")
            return Start(**options)
        given = {name: value for name, value in options.items() if value is not None}
        if {"intrinsics", "fov"} & given.keys():
            given = {"intrinsics": None, "fov": None, "scene": None} | given  # through another lens it is another view
        return replace(self, **given)


Starts = Callable[[int], Start]
"""The beginning of an episode from its seed."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that nothing is done with."""
    unknown = sorted(str(name) for name in options if name not in OPTIONS)
    if unknown:
        raise InputError(f"options hold {', '.join(map(repr, unknown))}; known are {', '.join(OPTIONS)}.")


def example_start(seed: int) -> Start:
    """The example that comes with the package, whatever the seed."""
    example = load_example()
    return Start(example.image, example.prompt, example.intrinsics, example.fov)


@dataclass(frozen=True)
class ProceduralStarts:
    """A procedural scene for every seed, of one split, drawn at a size (height, width) in pixels."""

    size: tuple[int, int]
    split: str = "train"
    samples: int = 4

    def __call__(self, seed: int) -> Start:
        seeds = PROCEDURAL_SEEDS.get(self.split, ())
        return self.picture_of(draw(split_seed(self.split, seed % max(1, len(seeds))), SCENE_FRAMES))

    def picture_of(self, scene: SceneAndPath) -> Start:
        """The start whose picture is the first view of a scene."""
        first = replace(scene, c2w=scene.c2w[:1])
        frames = render_drawn([first], *self.size, "cpu", Renderer(self.samples))[0]
        picture = frames[0, 0].permute(1, 2, 0).contiguous().numpy()
        return Start(picture, scene.caption, lens_intrinsics([scene.lens], 1, *self.size)[0, 0], scene=first)


def starts_of(kind: str | Starts, size: tuple[int, int]) -> Starts:
    """What a word names, or what was given.

    Raises:
        InputError: nothing has this name.
    """
    if callable(kind):
        return kind
    if kind == "procedural":
        return ProceduralStarts(size)
    if kind == "example":
        return example_start
    raise InputError(f"starts is {kind!r}; it must be 'procedural', 'example', or a function from a seed to a Start.")
