"""What an agent may do in a world: hold keys for a chunk, or fly with a velocity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.actions import CameraMotion, MotionRules
from sana_wm.geometry.twists import carried
from sana_wm.serving.gymnasium_module import gymnasium

KEY_ACTIONS = ("none", "w", "s", "a", "d", "j", "l", "i", "k", "wa", "wd")
"""What the number of an action means unless others are named."""
VELOCITIES = ("right", "down", "forward", "tilt up", "turn right", "roll clockwise")
"""The numbers of a flying action: per frame, in the camera's own axes."""


class Walk(Protocol):
    """A world in so far as one moves in it: :class:`sana_wm.engine.world.World`, or one that stands in for it."""

    @property
    def frames_a_step(self) -> int: ...

    @property
    def c2w(self) -> Tensor: ...

    def step(self, keys: str | None = None, *, poses: Tensor | None = None) -> npt.NDArray[np.uint8]: ...

    def close(self) -> None: ...


class Actions(Protocol):
    """A space of actions, and what each does to a world."""

    @property
    def space(self) -> gymnasium.spaces.Space[Any]: ...

    def take(self, action: Any, walk: Walk) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True)
class KeyActions:
    """Action i holds `keys[i]` for a chunk."""

    keys: tuple[str, ...] = KEY_ACTIONS

    def __post_init__(self) -> None:
        if not self.keys:
            raise InputError("actions is an empty list of keys; name at least one, such as ('none', 'w', 'a', 'd').")
        for word in self.keys:
            CameraMotion().step(() if word == "none" else word)  # names a key that is none

    @property
    def space(self) -> gymnasium.spaces.Discrete:
        return gymnasium.spaces.Discrete(len(self.keys))

    def take(self, action: Any, walk: Walk) -> npt.NDArray[np.uint8]:
        number = np.asarray(action)
        if number.size != 1 or number.dtype.kind not in "iu" or not 0 <= int(number.item()) < len(self.keys):
            raise InputError(f"the action is {action!r}; it must be a whole number from 0 to {len(self.keys) - 1}.")
        return walk.step(self.keys[int(number.item())])


@dataclass(frozen=True)
class VelocityActions:
    """Six numbers from -1 to 1, see :data:`VELOCITIES`; 1 is as fast as a held key. There is no inertia, and nothing
    keeps the camera upright or on the ground."""

    rules: MotionRules

    @property
    def space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(-1.0, 1.0, (len(VELOCITIES),), np.float32)

    def take(self, action: Any, walk: Walk) -> npt.NDArray[np.uint8]:
        values = np.asarray(action)
        if values.shape != (len(VELOCITIES),) or values.dtype.kind not in "iuf" or not bool((abs(values) <= 1).all()):
            raise InputError(
                f"the action is {action!r}; it must be {len(VELOCITIES)} numbers from -1 to 1: {', '.join(VELOCITIES)}."
            )
        turn = math.radians(self.rules.rotation_speed_deg)
        speeds = torch.tensor([self.rules.translation_speed] * 3 + [turn] * 3, dtype=torch.float64)
        return walk.step(poses=carried(walk.c2w, torch.from_numpy(values).double() * speeds, walk.frames_a_step))


def actions_of(kind: str | Sequence[str], rules: MotionRules) -> Actions:
    """The actions that a word or a list of keys names.

    Raises:
        InputError: it is neither.
    """
    if kind == "keys":
        return KeyActions()
    if kind == "velocities":
        return VelocityActions(rules)
    if isinstance(kind, str) or not all(isinstance(word, str) for word in kind):
        raise InputError(f"actions is {kind!r}; it must be 'keys', 'velocities', or a list such as ['none', 'w'].")
    return KeyActions(tuple(kind))
