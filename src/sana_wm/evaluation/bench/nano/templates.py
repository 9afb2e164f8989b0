"""The twenty shapes of path of our own benchmark, ten a split (spec 61-benchmark.md section 1.2).

A template is a list of key poses in the frame of the first: (right, up, ahead) in scene scales d, yaw to the right and
pitch upwards in degrees. All of it shrinks with the amplitude. Templates that end where they begin may be run through
several times; that is how a short figure fills a minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sana_wm.evaluation.trajectory import HARD, SIMPLE, WHIP_PAN, KeyPoses, Limits

Key = tuple[float, float, float, float, float]
"""right, up, ahead in scene scales; yaw, pitch in degrees."""

HOME: Key = (0.0, 0.0, 0.0, 0.0, 0.0)
KEYS_PER_TURN = 12


@dataclass(frozen=True)
class Template:
    """A shape of path. `most_laps`: how often it may be repeated; above 1 only where it ends at its first pose.

    sided: its name says left or right, so it is not mirrored.
    """

    name: str
    keys: tuple[Key, ...]
    limits: Limits
    most_laps: int = 1
    sided: bool = False

    @property
    def level(self) -> bool:
        """Whether it stays at one height and looks level."""
        return all(up == 0 and pitch == 0 for _, up, _, _, pitch in self.keys)


def key_poses(keys: Sequence[Key], scale: float, *, amplitude: float, mirrored: bool, level: bool) -> KeyPoses:
    """Key poses for a scene of scale d, in the unit of d.

    amplitude: factor on every distance and angle. mirrored: with left and right exchanged. level: only their part in
    the plane, for worlds whose camera neither rises nor pitches.
    """
    right, up, ahead, yaw, pitch = torch.tensor(keys, dtype=torch.float64).unbind(1)
    side, height = -1.0 if mirrored else 1.0, 0.0 if level else 1.0
    positions = amplitude * scale * torch.stack((side * right, -height * up, ahead), dim=1)
    y, p = (amplitude * torch.deg2rad(angle) / 2 for angle in (side * yaw, height * pitch))
    # turn about the vertical, then tilt: R_y(yaw) R_x(pitch)
    quaternions = torch.stack((y.cos() * p.cos(), y.cos() * p.sin(), y.sin() * p.cos(), -y.sin() * p.sin()), dim=1)
    return KeyPoses(positions, quaternions)


def _sampled(pose: Callable[[float], Key], count: int, turns: float = 1.0) -> tuple[Key, ...]:
    """Keys of a curve given by its phase, which runs from 0 to 2 pi `turns`, in `count` steps; the first is home."""
    phases = [2 * math.pi * turns * k / count for k in range(1, count + 1)]
    return (HOME, *(pose(phase) for phase in phases))


def _circle(radius: float, phase: float) -> tuple[float, float]:
    """Right and ahead on a circle ahead of home, which is left to the right."""
    return radius * math.sin(phase), radius * (1 - math.cos(phase))


def _arc(side: float, steps: int = 6, radius: float = 0.8, degrees: float = 58.0) -> tuple[Key, ...]:
    """Ahead along a circle, always looking along it."""
    angles = [degrees * k / steps for k in range(1, steps + 1)]
    turns = [(math.sin(math.radians(a)), math.cos(math.radians(a)), a) for a in angles]
    return (HOME, *((side * radius * (1 - cos), 0.0, radius * sin, side * a, 0.0) for sin, cos, a in turns))


def _s_curve(phase: float) -> Key:
    return 0.12 * (1 - math.cos(phase)), 0.0, 0.8 * phase / (2 * math.pi), 28 * math.sin(phase), 0.0


def _figure_eight(phase: float) -> Key:
    return 0.22 * math.sin(2 * phase), 0.0, 0.38 * (1 - math.cos(phase)), 24 * math.sin(phase), 0.0


def _orbit(phase: float) -> Key:
    """Around a point 0.8 d ahead, to the right, with that point in the middle of the picture."""
    return 0.78 * math.sin(phase), 0.0, 0.78 * (1 - math.cos(phase)), -math.degrees(phase), -4 * math.sin(phase)


def _loop(radius: float, inward: float, side: float = 1.0) -> Callable[[float], Key]:
    """Once around a circle, looking up to `inward` degrees towards its middle."""

    def pose(phase: float) -> Key:
        right, ahead = _circle(radius, phase)
        return side * right, 0.0, ahead, -side * inward * math.sin(phase), 0.0

    return pose


def _climbing(phase: float) -> Key:
    """Two turns of a helix."""
    right, ahead = _circle(0.3, phase)
    risen = phase / (4 * math.pi)
    return right, 0.38 * risen, ahead, -70 * math.sin(phase), -26 * risen


def _panning(phase: float) -> Key:
    right, ahead = _circle(0.35, phase)
    return right, 0.0, ahead, 80 * math.sin(2 * phase), 0.0


def _ways(*keys: Sequence[float]) -> tuple[Key, ...]:
    """Keys after home; missing last entries are 0."""
    return (HOME, *(_whole(key) for key in keys))


def _whole(key: Sequence[float]) -> Key:
    right, up, ahead, yaw, pitch = (*key, *HOME[len(key) :])
    return right, up, ahead, yaw, pitch


def _and_back(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """There and back the same way, without turning round."""
    return keys + keys[-2::-1]


SIMPLE_TEMPLATES: tuple[Template, ...] = (
    Template("forward", _ways((0, 0, 0.27), (0, 0, 0.53), (0, 0, 0.8)), SIMPLE),
    Template("arc_left", _and_back(_arc(-1.0)), SIMPLE, sided=True),
    Template("arc_right", _and_back(_arc(1.0)), SIMPLE, sided=True),
    Template("s_curve", _and_back(_sampled(_s_curve, 8)), SIMPLE),
    Template(
        "out_and_back",
        _and_back(_ways((0, 0, 0.25), (0.02, 0, 0.5, 10), (0.05, 0, 0.75, 25))),
        SIMPLE,
    ),
    Template("figure_eight", _sampled(_figure_eight, 16), SIMPLE),
    Template("orbit_quarter", _and_back(_sampled(_orbit, 6, turns=58 / 360)), SIMPLE),
    Template(
        "slow_yaw_sweep",
        _and_back(
            _ways((0, 0, 0.1, 15), (0, 0, 0.2, 29), (0, 0, 0.3), (0, 0, 0.4, -29), (0, 0, 0.5, -15), (0, 0, 0.6))
        ),
        SIMPLE,
    ),
    Template(
        "lateral_glide",
        _ways((0.25, 0, 0), (0.5, 0, 0.05, -10), (0.25, 0, 0), (0, 0, 0), (-0.3, 0, 0.05, 10), (0, 0, 0)),
        SIMPLE,
    ),
    Template("loop_return", _sampled(_loop(0.35, 28.0), KEYS_PER_TURN), SIMPLE),
)

HARD_TEMPLATES: tuple[Template, ...] = (
    Template(
        "whip_pan",
        _ways(
            (0, 0, 0.3), (0, 0, 0.3, 45), (0, 0, 0.3, 88), (0, 0, 0.3, 45), (0, 0, 0.3),
            (0, 0, 0.6), (0, 0, 0.6, -45), (0, 0, 0.6, -88), (0, 0, 0.6, -45), (0, 0, 0.6), (0, 0, 0.3), (0, 0, 0),
        ),
        WHIP_PAN,
        most_laps=2,
    ),
    Template(
        "double_loop",
        _sampled(_loop(0.4, 75.0), KEYS_PER_TURN) + _sampled(_loop(0.3, 75.0, side=-1.0), KEYS_PER_TURN)[1:],
        HARD,
    ),
    Template(
        "crane_up_down",
        _ways(
            (0, 0.18, 0.1, 0, -12), (0, 0.36, 0.3, 8, -28), (0, 0.36, 0.5, -8, -28), (0, 0.18, 0.58, 0, -12),
            (0, 0.02, 0.5), (0, 0, 0.25), (0, 0, 0),
        ),
        HARD,
        most_laps=2,
    ),
    Template(
        "pitch_extreme",
        _ways(
            (0, 0, 0.15, 0, 22), (0, 0, 0.3, 0, 44), (0, 0, 0.4, 20, 0), (0, 0, 0.5, 0, -44), (0, 0, 0.65, -20, -22),
            (0, 0, 0.55), (0, 0, 0.4, 0, 30), (0, 0, 0.2, 0, -15), (0, 0, 0),
        ),
        HARD,
        most_laps=2,
    ),
    Template(
        "zigzag_yaw",
        _ways(
            (0.2, 0, 0.2, 55), (-0.2, 0, 0.4, -55), (0.2, 0, 0.6, 55), (-0.2, 0, 0.8, -55), (0, 0, 0.95),
            (0, 0, 0.6), (0, 0, 0.3), (0, 0, 0),
        ),
        HARD,
    ),
    Template(
        "spiral_climb",
        (*_sampled(_climbing, 2 * KEYS_PER_TURN, turns=2.0), (0.0, 0.2, 0.05, 0.0, -12.0), HOME),
        HARD,
    ),
    Template(
        "back_and_turn",
        _ways(
            (0, 0, -0.25), (0, 0, -0.5), (0, 0, -0.5, 57), (0, 0, -0.5, 114), (0, 0, -0.5, 171), (0, 0, -0.75, 171),
            (0, 0, -1, 171), (0, 0, -1, 114), (0, 0, -1, 57), (0, 0, -1), (0, 0, -0.5), (0, 0, 0),
        ),
        HARD,
    ),
    Template("loop_with_pan", _sampled(_panning, 2 * KEYS_PER_TURN), HARD),
    Template(
        "dive_and_rise",
        _ways(
            (0, 0.2, 0.15, 0, 8), (0, 0.38, 0.35, 0, -8), (0, 0.28, 0.55, 0, -36), (0, 0.05, 0.8, 0, -22),
            (0, 0.1, 0.95, 0, 6), (0, 0.34, 1.1, 0, 14), (0, 0.38, 0.9, 20, -12), (0, 0.2, 0.5, 0, -14),
            (0, 0.04, 0.2), (0, 0, 0),
        ),
        HARD,
    ),
    Template(
        "compound",
        _ways(
            (0.08, 0, 0.25, 20), (0.3, 0.1, 0.45, 60, -8), (0.45, 0.28, 0.5, 85, -24), (0.42, 0.34, 0.55, 30, -20),
            (0.3, 0.34, 0.65, -40, -20), (0, 0.22, 0.8, -85, -8), (-0.25, 0.08, 0.65, -40, 14), (-0.3, 0, 0.4, 20, 8),
            (-0.12, 0, 0.15), (0, 0, 0),
        ),
        HARD,
    ),
)  # fmt: skip

TEMPLATES: dict[str, tuple[Template, ...]] = {"simple": SIMPLE_TEMPLATES, "hard": HARD_TEMPLATES}
BY_NAME: dict[str, Template] = {t.name: t for ts in TEMPLATES.values() for t in ts}
