"""A walk through a Freedoom level that follows a path as a player can: on the floor, looking level.

The player is steered with the keys' own commands and has the game's inertia, so the walk follows its plan to within
centimetres; the poses that the engine reports, not the plan, are the camera's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sana_wm.worlds.doom.camera import UNITS_PER_METRE
from sana_wm.worlds.doom.engine import TICS_PER_FRAME, Engine, View
from sana_wm.worlds.doom.level import Floats, Level
from sana_wm.worlds.doom.wander import Motion

KEPT_SPEED = 0.90625**TICS_PER_FRAME
"""Share of its speed that a player without a key held keeps over one frame (the game's friction, per tic)."""
CORRECTION = 0.35
"""Share of the distance from the plan that is made good in one frame."""
MOST_SPEED = 0.25
"""Metres a frame: the fastest command, a little above running."""
_PICKUPS = (
    "HealthBonus", "Stimpack", "Medikit", "Soulsphere", "Megasphere", "Berserk", "ArmorBonus", "GreenArmor",
    "BlueArmor", "Clip", "ClipBox", "Shell", "ShellBox", "RocketAmmo", "RocketBox", "Cell", "CellPack", "Backpack",
    "Chainsaw", "Shotgun", "SuperShotgun", "Chaingun", "RocketLauncher", "PlasmaRifle", "BFG9000", "RedCard",
    "BlueCard", "YellowCard", "RedSkull", "BlueSkull", "YellowSkull", "InvulnerabilitySphere", "BlurSphere", "RadSuit",
    "Infrared", "Allmap",
)  # fmt: skip
"""What the player takes along when walking over it. It is cleared away, or a place would not look the same again."""
WALL_SPACING = 8.0
"""Map units between the points that stand for a wall."""


@dataclass(frozen=True)
class Spot:
    """Where a walk starts, and what of the game is left to chance.

    Attributes:
        place: map units east and north; heading: radians counter-clockwise from east.
        lens: horizontal field of view asked for, degrees. The engine knows whole degrees of its own, so that the
            field of view of the pictures is a little different.
    """

    level: str
    engine_seed: int
    place: tuple[float, float]
    heading: float
    lens: float


def plan_of(c2w: Tensor, spot: Spot) -> Floats:
    """(F,3) float64 east and north in map units and heading in radians, of poses (F,4,4) relative to the spot.

    Height and pitch of the poses are not looked at.
    """
    right, ahead = c2w[:, 0, 3].double().numpy(), c2w[:, 2, 3].double().numpy()
    yaw = torch.atan2(c2w[:, 0, 2], c2w[:, 2, 2]).double().numpy()
    sin, cos = math.sin(spot.heading), math.cos(spot.heading)
    east, north = ahead * cos + right * sin, ahead * sin - right * cos
    x, y = spot.place
    return np.stack((x + UNITS_PER_METRE * east, y + UNITS_PER_METRE * north, spot.heading - yaw), axis=1)


def wall_points(level: Level, spot: Spot, reach: float) -> Tensor:
    """Points (n,3) float64 of what stops a walker within `reach` metres of a spot.

    In metres, at the height of the camera, in the frame of the camera at the spot.
    """
    place = np.array(spot.place)
    ends = level.plan.ends[level.near(place, reach * UNITS_PER_METRE, level.solid)]
    points: list[Floats] = [np.zeros((0, 2))]
    for a, b in ends:
        count = max(2, math.ceil(float(np.linalg.norm(b - a)) / WALL_SPACING) + 1)
        points.append(a + np.linspace(0, 1, count)[:, None] * (b - a))
    offset = (np.concatenate(points) - place) / UNITS_PER_METRE
    sin, cos = math.sin(spot.heading), math.cos(spot.heading)
    ahead, right = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 0] * sin - offset[:, 1] * cos
    return torch.from_numpy(np.stack((right, np.zeros_like(right), ahead), axis=1))


def walk(engine: Engine, spot: Spot, plan: Floats, shown: Collection[int] | None = None) -> Iterator[View]:
    """Yield the view of every frame of `plan` (F,3), ending early where the player cannot be put or the level ends.

    The engine must be fresh for the pictures to be the same every time: flickering lights go on from where they were.
    shown: the frames that get a picture; all by default.
    """
    for thing in _PICKUPS:
        engine.command(f"remove {thing}")
    game_fov = round(engine.lens.game_fov(spot.lens))
    if not engine.place(plan[0, :2], float(plan[0, 2]), game_fov):
        return
    before = np.array(spot.place)
    for frame in range(len(plan)):
        view = engine.view(picture=shown is None or frame in shown)
        if view is None:
            return
        yield view
        if frame + 1 < len(plan):
            engine.move(_motion(view, view.place - before if frame else np.zeros(2), plan[frame], plan[frame + 1]))
            before = view.place


def _motion(view: View, speed: Floats, now: Floats, then: Floats) -> Motion:
    """What to ask for so that the player, who moves at `speed` map units a frame, follows the plan."""
    wanted = then[:2] - now[:2] + CORRECTION * (now[:2] - view.place)
    # a command moves the speed only part of the way towards what it asks for
    asked = (wanted - KEPT_SPEED * speed) / (1 - KEPT_SPEED) / UNITS_PER_METRE
    asked *= min(1.0, MOST_SPEED / max(1e-9, float(np.linalg.norm(asked))))
    sin, cos = math.sin(view.heading), math.cos(view.heading)
    turn = math.degrees(then[2] - view.heading)
    return Motion(
        ahead=float(asked[0] * cos + asked[1] * sin),
        right=float(asked[0] * sin - asked[1] * cos),
        turn=(turn + 180) % 360 - 180,
    )
