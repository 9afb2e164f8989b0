"""A template run in one scene: how often, how large, which way round; fitted to the time and to the scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.nano.templates import BY_NAME, Template, key_poses
from sana_wm.evaluation.trajectory import FittedPath, KeyPoses, broken_limit, fit_path, retime

LEAST_AMPLITUDE = 0.4
"""Share to which a template is shrunk to fit the time; in less time only its beginning is run, and only a single step
shrinks further."""
HALVINGS = 9
"""Of the interval in which the largest amplitude that the time allows is looked for: to a thousandth."""


@dataclass(frozen=True)
class Course:
    """How a template is run: all that is needed, with a scene scale and a number of frames, to make its path again.

    Attributes:
        mirrored: with left and right exchanged. level: only its part in the plane.
        laps: how often. steps: of the way from key pose to key pose, the first so many only; None: all.
        amplitude: factor on all distances and angles.
    """

    template: str
    mirrored: bool = False
    level: bool = False
    laps: int = 1
    steps: int | None = None
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        if self.template not in BY_NAME:
            raise InputError(f"template is {self.template!r}; templates are {', '.join(BY_NAME)}.")
        most, steps = self.shape.most_laps, len(self.shape.keys) - 1
        if not 1 <= self.laps <= most:
            raise InputError(f"laps of {self.template} is {self.laps}; it must lie between 1 and {most}.")
        if self.steps is not None and not (1 <= self.steps <= steps and self.laps == 1):
            raise InputError(f"steps of {self.template} is {self.steps}; it must lie between 1 and {steps} of one lap.")
        if not 0 < self.amplitude <= 1:
            raise InputError(f"amplitude of {self.template} is {self.amplitude}; it must be above 0 and at most 1.")
        if self.mirrored and self.shape.sided:
            raise InputError(f"{self.template} is mirrored; its name says which side it goes to.")

    @property
    def shape(self) -> Template:
        """The template."""
        return BY_NAME[self.template]

    def keys(self, scale: float) -> KeyPoses:
        """Key poses in the unit of the scene scale; the first is the identity."""
        keys = self.shape.keys
        run = keys + keys[1:] * (self.laps - 1) if self.steps is None else keys[: self.steps + 1]
        return key_poses(run, scale, amplitude=self.amplitude, mirrored=self.mirrored, level=self.level)

    def path(self, num_frames: int, scale: float) -> Tensor:
        """Poses (num_frames,4,4) float64 from the identity, retimed by the template's limits."""
        return retime(self.keys(scale), num_frames, self.shape.limits, scale)


def paced(course: Course, num_frames: int, fps: float) -> Course:
    """The course with as many laps, or as many steps of one, as the time allows, and then as much amplitude.

    Raises :class:`InputError` if a hundredth of the first step takes longer.
    """

    def fits(candidate: Course) -> bool:
        limits = candidate.shape.limits
        return not broken_limit(candidate.path(num_frames, 1.0), fps, limits, 1.0, math.inf)

    for laps in range(course.shape.most_laps, 0, -1):
        whole = replace(course, laps=laps, steps=None, amplitude=1.0)
        if fits(whole):
            return whole
    all_steps = len(course.shape.keys) - 1
    for steps in range(all_steps, 0, -1):
        part = replace(course, laps=1, steps=None if steps == all_steps else steps, amplitude=LEAST_AMPLITUDE)
        if fits(part):
            return _largest(part, fits)
    least = replace(course, laps=1, steps=1, amplitude=0.01)
    if not fits(least):
        raise InputError(f"{num_frames} frames at {fps:g} fps are too few for the template {course.template}.")
    return _largest(least, fits)


def _largest(course: Course, fits: Callable[[Course], bool]) -> Course:
    """The course with the largest amplitude that fits; that of `course` does."""
    low, high = course.amplitude, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if fits(replace(course, amplitude=middle)):
            low = middle
        else:
            high = middle
    return replace(course, amplitude=low)


def fitted(
    course: Course, num_frames: int, fps: float, scale: float, points: Tensor, clearance: float
) -> tuple[Course, FittedPath]:
    """A paced course shrunk until it keeps `clearance` (in scales) from points (n,3), and its path.

    Raises :class:`InputError` if it cannot (:func:`sana_wm.evaluation.trajectory.fit_path`).
    """
    limits = replace(course.shape.limits, clearance=clearance)

    def shrunk(share: float) -> Course:
        return replace(course, amplitude=course.amplitude * share)

    path = fit_path(lambda share: shrunk(share).keys(scale), num_frames, fps, limits, scale, points)
    return shrunk(path.amplitude), path
