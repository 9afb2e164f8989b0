"""The same environment without a model: procedural scenes as their own renderer shows them."""

from __future__ import annotations

from dataclasses import dataclass

from sana_wm.errors import InputError
from sana_wm.evaluation.true_world import TrueWorld
from sana_wm.geometry.actions import MotionRules
from sana_wm.serving.env_starts import Start
from sana_wm.worlds.procedural import Renderer


@dataclass(frozen=True)
class TrueWorlds:
    """Worlds for :class:`~sana_wm.serving.env.WorldEnv`, of starts that know what their picture shows.

    samples: rays a pixel, see :class:`Renderer`. last_only: see :class:`TrueWorld`; for environments that show the last
    frame of a step.
    """

    size: tuple[int, int] = (192, 320)
    frames_a_step: int = 24
    fps: int = 16
    samples: int = 4
    last_only: bool = False

    def begin(self, start: Start, seed: int, rules: MotionRules) -> TrueWorld:
        if start.scene is None:
            raise InputError("the true renderer draws procedural scenes only, and of this picture no scene is known.")
        return TrueWorld(start.scene, self.size, self.frames_a_step, rules, Renderer(self.samples), self.last_only)
