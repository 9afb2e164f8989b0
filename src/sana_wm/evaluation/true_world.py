"""A procedural scene that one moves through as through a world of a model, drawn by its true renderer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.engine.world import Keys, led
from sana_wm.errors import InputError
from sana_wm.geometry.actions import CameraMotion, MotionRules
from sana_wm.geometry.poses import compose
from sana_wm.worlds.procedural import Renderer, Scene, SceneAndPath, lens_intrinsics


class TrueWorld:
    """What :class:`~sana_wm.engine.world.World` would show if the model were perfect.

    It begins at the first pose of `drawn`; its poses are relative to that, as a world's.

    Args:
        size: height and width of a frame.
        frames_a_step: new frames of a step.
        last_only: draw nothing but the last of them, where nobody looks at the others.
    """

    def __init__(
        self,
        drawn: SceneAndPath,
        size: tuple[int, int],
        frames_a_step: int = 24,
        rules: MotionRules | None = None,
        renderer: Renderer | None = None,
        last_only: bool = False,
    ) -> None:
        self.drawn, self.size, self.frames_a_step = drawn, size, frames_a_step
        self.renderer, self.last_only = renderer or Renderer(), last_only
        self._motion: CameraMotion | None = CameraMotion(rules)
        self._begun = False

    def step(
        self, keys: Keys | None = None, *, poses: Tensor | npt.NDArray[Any] | None = None
    ) -> npt.NDArray[np.uint8]:
        """The next frames (n,H,W,3), the first time with the picture at the beginning in front; see `World.step`.

        Raises:
            InputError: the keys or poses are wrong, or the world is closed.
        """
        c2w, motion = led(self._moving, self.frames_a_step, keys, poses)
        if self.last_only:
            c2w = c2w[-1:]
        elif not self._begun:
            c2w = torch.cat([torch.eye(4)[None], c2w])
        absolute = compose(torch.from_numpy(self.drawn.c2w[0]).double(), c2w.double()).float()
        intrinsics = lens_intrinsics([self.drawn.lens], len(c2w), *self.size)
        scene = Scene.stack([self.drawn.surfaces], [self.drawn.environment])
        frames, _ = self.renderer(scene, absolute[None], intrinsics, *self.size)
        self._motion, self._begun = motion, True
        return np.ascontiguousarray(frames[0].permute(0, 2, 3, 1).cpu().numpy())

    @property
    def c2w(self) -> Tensor:
        """Pose (4,4) of the last frame, relative to the first one."""
        return self._moving.c2w

    def close(self) -> None:
        """It cannot go on after this."""
        self._motion = None

    @property
    def _moving(self) -> CameraMotion:
        if self._motion is None:
            raise InputError("this world is closed; begin another one.")
        return self._motion
