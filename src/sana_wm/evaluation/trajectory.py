"""Paths for our own benchmark: retimed key poses that keep to speed limits and clear of the scene.

Spec 61-benchmark.md section 1.2. Lengths are in the unit of the scene, whose scale d is the median depth of the first
frame. The released benchmark's poses are its own and are never made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.splines import spline_path
from sana_wm.geometry.poses import check_poses

SHRINK, MOST_RETRIES = 0.8, 8
SAMPLES_PER_SEGMENT = 128
POINTS_AT_ONCE = 8192


@dataclass(frozen=True)
class Limits:
    """What a path may do. speed and clearance in scene scales d (per second), turn_rate_deg in degrees per second.

    The turn rate is that of the whole rotation, which bounds the yaw rate of a camera that does not roll.
    """

    speed: float
    turn_rate_deg: float
    clearance: float = 0.15

    def __post_init__(self) -> None:
        for name in ("speed", "turn_rate_deg"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the limits is {getattr(self, name)}; it must be above 0.")
        if not self.clearance >= 0:
            raise InputError(f"clearance of the limits is {self.clearance}; it must be at least 0.")


SIMPLE = Limits(speed=0.06, turn_rate_deg=15.0)
HARD = Limits(speed=0.12, turn_rate_deg=30.0)
WHIP_PAN = Limits(speed=0.12, turn_rate_deg=90.0)


@dataclass(frozen=True)
class KeyPoses:
    """Key positions (K,3) in scene units and orientations (K,4) as quaternions (w, x, y, z)."""

    positions: Tensor
    quaternions: Tensor


@dataclass(frozen=True)
class FittedPath:
    """A path within its limits: c2w (F,4,4) float64, the amplitude it was drawn with, its least distance to a point."""

    c2w: Tensor
    amplitude: float
    clearance: float


def speeds(c2w: Tensor, fps: float) -> Tensor:
    """(F-1,) float64 distance a second between successive camera centres of poses (F,4,4)."""
    return c2w[:, :3, 3].double().diff(dim=0).norm(dim=1) * fps


def turn_rates_deg(c2w: Tensor, fps: float) -> Tensor:
    """(F-1,) float64 degrees a second between successive orientations of poses (F,4,4)."""
    rotation = c2w[:, :3, :3].double()
    # the chord keeps the digits of small angles that the arc cosine loses
    chord = (rotation[:-1].mT @ rotation[1:] - torch.eye(3, dtype=torch.float64, device=c2w.device)).flatten(1)
    half = (chord.norm(dim=1) / math.sqrt(8.0)).clamp_max(1.0)
    return torch.rad2deg(2.0 * torch.arcsin(half)) * fps


def clearances(c2w: Tensor, points: Tensor) -> Tensor:
    """(F,) float64 distance from each camera centre of poses (F,4,4) to the nearest of points (n,3).

    Infinite without points; points that are not finite (sky) are left out.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points has the shape {tuple(points.shape)}; it must be (n, 3).")
    centres = c2w[:, :3, 3].double()
    nearest = torch.full((len(centres),), math.inf, dtype=torch.float64, device=centres.device)
    finite = points[torch.isfinite(points).all(dim=1)].double()
    for some in finite.split(POINTS_AT_ONCE) if len(finite) else ():
        # not by a matrix product, which loses the digits of near points far from the origin
        distance = torch.cdist(centres, some, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = torch.minimum(nearest, distance.amin(dim=1))
    return nearest


def retime(keys: KeyPoses, num_frames: int, limits: Limits, scale: float) -> Tensor:
    """Poses (num_frames,4,4) float64 along the spline of `keys`, starting and stopping softly.

    Equal steps take equal times at the limits: where the path moves that is arc length over speed, where it turns on
    the spot it is angle over turn rate. A cosine ease then runs over the whole path. scale: d, the scene's scale.
    """
    if num_frames < 2:
        raise InputError(f"num_frames is {num_frames}; a path needs at least 2 frames.")
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"the scene scale is {scale}; it must be finite and above 0.")
    count = len(keys.positions)
    u = torch.linspace(0, count - 1, (count - 1) * SAMPLES_PER_SEGMENT + 1, dtype=torch.float64)
    fine = spline_path(keys.positions, keys.quaternions, u)
    effort = torch.maximum(speeds(fine, 1.0) / (limits.speed * scale), turn_rates_deg(fine, 1.0) / limits.turn_rate_deg)
    reached = torch.cat((effort.new_zeros(1), effort.cumsum(dim=0)))
    if reached[-1] <= 0:
        raise InputError(f"the {count} key poses are all the same; a path must move or turn.")
    ease = (1 - torch.cos(torch.linspace(0, math.pi, num_frames, dtype=torch.float64))) / 2
    return spline_path(keys.positions, keys.quaternions, _interpolate(ease * reached[-1], reached, u))


def fit_path(
    keys_at: Callable[[float], KeyPoses],
    num_frames: int,
    fps: float,
    limits: Limits,
    scale: float,
    points: Tensor,
) -> FittedPath:
    """The largest path, of amplitude 1, 0.8, 0.64 ... (8 retries), within its limits in the scene of points (n,3).

    keys_at: key poses for an amplitude; everything that must shrink has to scale with it. points are in the frame and
    unit of the keys. Raises :class:`InputError` naming the limit that still breaks at the last amplitude.
    """
    broken = ""
    amplitude = 1.0
    for retry in range(MOST_RETRIES + 1):
        amplitude = SHRINK**retry
        c2w = retime(keys_at(amplitude), num_frames, limits, scale)
        clear = float(clearances(c2w, points).min())
        broken = broken_limit(c2w, fps, limits, scale, clear)
        if not broken:
            return FittedPath(c2w, amplitude, clear)
    raise InputError(f"the path does not fit its limits even at amplitude {amplitude:.3g}: {broken}.")


def broken_limit(c2w: Tensor, fps: float, limits: Limits, scale: float, clearance: float) -> str:
    """What poses (F,4,4) with this least distance to the scene do beyond `limits`, in words; empty if nothing."""
    check_poses(c2w)
    slack = 1 + 1e-9
    speed, turn = float(speeds(c2w, fps).max()), float(turn_rates_deg(c2w, fps).max())
    if speed > limits.speed * scale * slack:
        return f"its speed reaches {speed:.3g} units/s, at most {limits.speed * scale:.3g} is allowed"
    if turn > limits.turn_rate_deg * slack:
        return f"it turns at up to {turn:.3g} degrees/s, at most {limits.turn_rate_deg:g} is allowed"
    if clearance < limits.clearance * scale:
        return f"it comes within {clearance:.3g} units of the scene, at least {limits.clearance * scale:.3g} is asked"
    return ""


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """y at the places `at` of the rising x, linear between the samples; the ends stay within y."""
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    span = x[right] - x[right - 1]
    share = torch.where(span > 0, (at - x[right - 1]) / span.clamp_min(torch.finfo(x.dtype).tiny), 0.0)
    return y[right - 1] + share.clamp(0.0, 1.0) * (y[right] - y[right - 1])
