"""Smooth random 6-DoF camera paths at 16 frames per second.

A path is a stack of camera-to-world matrices ``(F, 4, 4)``, OpenCV axes (x right, y **down**, z forward), metres. The
ground is ``y = 0`` and the camera starts above the origin at eye height, so ``y`` is negative. About two paths in five
are driven by random held keys through :func:`sana_wm.geometry.actions.rollout`, that is by the motion model behind the
user's action strings; the others are of the kinds people fly: walking, looking around, arcs, orbits, strafes, climbs,
stops, going and coming back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sana_wm.errors import InputError

KINDS = ("walk", "look", "arc", "orbit", "strafe", "climb", "stop", "revisit", "keys")
"""Kinds of path, in the order of :data:`WEIGHTS`."""

WEIGHTS = (0.16, 0.09, 0.08, 0.08, 0.06, 0.05, 0.04, 0.06, 0.38)
"""Share of every kind among random paths."""

MAX_YAW_RATE = 1.2
"""Largest yaw rate of the smooth kinds, degrees per frame."""

_MOVES = ("w", "w", "w", "w", "w", "s", "j", "l", "wj", "wl", "", "")
_TURNS = ("", "", "", "a", "a", "d", "d", "i", "k", "ai", "dk")


def random_paths(num: int, num_frames: int, generator: torch.Generator, kinds: tuple[str, ...] | None = None) -> Tensor:
    """Draw ``num`` camera paths.

    Args:
        num: number of paths, at least 1.
        num_frames: poses of each path, at least 2.
        generator: CPU generator; the only source of randomness.
        kinds: the kinds to draw from (with their usual weights); all of :data:`KINDS` when ``None``.

    Returns:
        ``(num, num_frames, 4, 4)`` float32 camera-to-world matrices.

    Raises:
        InputError: for a count below its minimum or an unknown kind.
    """
    if num < 1:
        raise InputError(f"num is {num}; at least 1 path must be asked for.")
    if num_frames < 2:
        raise InputError(f"num_frames is {num_frames}; a path needs at least 2 frames.")
    names = KINDS if kinds is None else kinds
    unknown = sorted(set(names) - set(KINDS))
    if unknown or not names:
        raise InputError(f"kinds holds {unknown}; kinds of path are {', '.join(KINDS)}.")
    weights = torch.tensor([WEIGHTS[KINDS.index(name)] for name in names])
    picks = torch.multinomial(weights, num, replacement=True, generator=generator)
    kind = torch.tensor([KINDS.index(name) for name in names])[picks]
    keyed = kind == KINDS.index("keys")
    local = torch.empty(num, num_frames, 4, 4, dtype=torch.float64)
    if bool(keyed.any()):
        local[keyed] = torch.stack([_key_path(num_frames, generator) for _ in range(int(keyed.sum()))])
    if not bool(keyed.all()):
        local[~keyed] = _smooth_paths(kind[~keyed], num_frames, generator)
    yaw = torch.rand(num, generator=generator, dtype=torch.float64) * 2 * math.pi
    start = torch.eye(4, dtype=torch.float64).repeat(num, 1, 1)
    start[:, :3, :3] = _rotation(yaw, torch.zeros_like(yaw), torch.zeros_like(yaw))
    start[:, 1, 3] = -(1.6 + _signed(num, generator) * 0.3)
    return (start[:, None] @ local).float()


def key_sequence(num_steps: int, generator: torch.Generator) -> list[frozenset[str]]:
    """Draw held keys for ``num_steps`` frames: a new press every 8 to 56 frames, often nothing but forward."""
    held: list[frozenset[str]] = []
    while len(held) < num_steps:
        pick = torch.rand(3, generator=generator).tolist()
        keys = _MOVES[int(pick[0] * len(_MOVES))] + _TURNS[int(pick[1] * len(_TURNS))]
        held += [frozenset(keys)] * (8 + int(48 * pick[2] ** 1.5))
    return held[:num_steps]


def _key_path(num_frames: int, generator: torch.Generator) -> Tensor:
    from sana_wm.geometry.actions import rollout

    pick = torch.rand(3, generator=generator).tolist()
    default = pick[0] < 0.5  # half of them at the speeds that users get without asking
    speed = 0.025 if default else min(0.07, max(0.012, 0.03 * math.exp(pick[1] - 0.5)))
    turn = 0.6 if default else 0.35 + 0.75 * pick[2]
    keys = key_sequence(num_frames - 1, generator)
    return rollout(keys, translation_speed=speed, rotation_speed_deg=turn, pitch_limit_deg=20.0).double()


def _smooth_paths(kind: Tensor, num_frames: int, generator: torch.Generator) -> Tensor:
    """Integrate smooth controls. ``kind (n,)`` indexes :data:`KINDS`; returns ``(n, F, 4, 4)`` float64 from the
    origin.
    """
    n, steps = len(kind), num_frames - 1
    frame = torch.arange(num_frames, dtype=torch.float64)
    noise = _smooth_noise(7, n, num_frames, generator)
    uniform = torch.rand(10, n, 1, generator=generator, dtype=torch.float64)
    side = torch.where(uniform[0] < 0.5, -1.0, 1.0)
    speed = (0.032 * torch.exp(0.33 * torch.randn(n, 1, generator=generator, dtype=torch.float64))).clamp(0.01, 0.056)

    def of(name: str) -> Tensor:
        return (kind == KINDS.index(name))[:, None]

    look, arc, orbit, strafe, climb = of("look"), of("arc"), of("orbit"), of("strafe"), of("climb")
    stop, revisit = of("stop"), of("revisit")
    wobble = 1 + 0.2 * noise[0]
    radius = 2.5 + 6 * uniform[1]
    orbit_speed = torch.minimum(speed, radius * math.radians(0.95 * MAX_YAW_RATE))
    forward = torch.where(look, speed * 0.6 * uniform[2], torch.where(strafe, 0.25 * speed * noise[1], speed)) * wobble
    forward = torch.where(orbit, 0.0, forward)
    right = torch.where(strafe, side * speed * wobble, torch.where(orbit, side * orbit_speed, 0.15 * speed * noise[2]))
    turn = 1.0 * uniform[3] * noise[3]
    turn = torch.where(look, (0.7 + 0.7 * uniform[4]) * noise[3] * side, turn)
    turn = torch.where(arc, side * (0.15 + 0.65 * uniform[4]), turn)
    turn = torch.where(orbit, -side * torch.rad2deg(orbit_speed / radius), turn)
    turn = turn.clamp(-MAX_YAW_RATE, MAX_YAW_RATE)
    envelope = _envelope(frame, num_frames, stop, revisit, uniform[5])
    forward, right, turn = forward * envelope, right * envelope, turn * envelope

    warped = envelope.cumsum(-1) - envelope[:, :1]  # pitch, roll and height live on the same clock as the motion
    swing = torch.where(look, 11.0, 3.5) * uniform[6]
    pitch = swing * _sines(warped, n, generator) + torch.where(orbit | climb, -6 * uniform[7], 0.0)
    roll = torch.where(uniform[8] < 0.12, 4.0, 0.0) * _sines(warped, n, generator)
    rise = torch.where(uniform[9] < 0.25, -0.7, 1.0 + 2 * uniform[9])
    rise = torch.where(climb, rise, 0.06 * uniform[9])
    period = rise.abs() * math.pi / torch.where(climb, 0.8 * speed, 0.15 * speed)
    height = rise * 0.5 * (1 - torch.cos(2 * math.pi * warped / period))

    yaw = torch.deg2rad(torch.cat([torch.zeros(n, 1, dtype=torch.float64), turn[:, :steps].cumsum(-1)], -1))
    sin, cos = torch.sin(yaw), torch.cos(yaw)
    step_x = forward * sin + right * cos
    step_z = forward * cos - right * sin
    pose = torch.eye(4, dtype=torch.float64).repeat(n, num_frames, 1, 1)
    pose[..., :3, :3] = _rotation(yaw, torch.deg2rad(pitch), torch.deg2rad(roll))
    pose[:, 1:, 0, 3] = step_x[:, :steps].cumsum(-1)
    pose[:, 1:, 2, 3] = step_z[:, :steps].cumsum(-1)
    pose[..., 1, 3] = -height
    half = (num_frames + 1) // 2
    back = torch.cat([torch.arange(half), torch.arange(num_frames - half - 1, -1, -1)])
    return torch.where(revisit[..., None, None], pose[:, back], pose)


def _envelope(frame: Tensor, num_frames: int, stop: Tensor, revisit: Tensor, place: Tensor) -> Tensor:
    """Share of the speed at every frame ``(n, F)``: eases to rest for a stop, and before turning back on a revisit."""
    rest = (num_frames * 0.2 + 4, num_frames * (0.3 + 0.5 * place))
    distance = (frame - rest[1]).abs() - rest[0] * 0.5
    stopped = (distance / 10).clamp(0, 1)
    turning = ((num_frames - 1) / 2 - frame).abs().div(min(10.0, num_frames / 4)).clamp(0, 1)
    share = torch.where(stop, stopped, torch.where(revisit, turning, torch.ones_like(stopped)))
    return share * share * (3 - 2 * share)


def _smooth_noise(channels: int, n: int, num_frames: int, generator: torch.Generator) -> Tensor:
    """Band-limited noise ``(channels, n, F)`` within [-1, 1]: three sines with periods of 1.5 to 12 seconds."""
    frame = torch.arange(num_frames, dtype=torch.float64).expand(channels * n, num_frames)
    return _sines(frame, channels * n, generator).view(channels, n, num_frames)


def _sines(clock: Tensor, n: int, generator: torch.Generator) -> Tensor:
    draws = torch.rand(3, 3, n, 1, generator=generator, dtype=torch.float64)
    frequency = 2 * math.pi / (24 * 8 ** draws[0])
    weight = draws[2] + 0.1
    waves = torch.sin(clock * frequency + 2 * math.pi * draws[1]) * (weight / weight.sum(0))
    return waves.sum(0)


def _signed(num: int, generator: torch.Generator) -> Tensor:
    return torch.rand(num, generator=generator, dtype=torch.float64) * 2 - 1


def _rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """``R_y(yaw) R_x(pitch) R_z(roll)`` for angles in radians; ``(..., 3, 3)``. Positive: right, up, clockwise."""
    (sy, cy), (sp, cp), (sr, cr) = ((torch.sin(a), torch.cos(a)) for a in (yaw, pitch, roll))
    rows = [
        [cy * cr + sy * sp * sr, -cy * sr + sy * sp * cr, sy * cp],
        [cp * sr, cp * cr, -sp],
        [-sy * cr + cy * sp * sr, sy * sr + cy * sp * cr, cy * cp],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
