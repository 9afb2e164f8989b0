"""Smooth paths through key poses: Catmull-Rom positions and SQUAD orientations (spec 61-benchmark.md section 1.2).

Key k sits at parameter k; a parameter u in [0, K-1] belongs to segment floor(u), the last key to the last segment.
Quaternions are (w, x, y, z). Everything in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.poses import rigid

LEAST_KNOT_SPACING = 1e-6
"""Of the largest knot spacing of the path: keys at one place (a pan on the spot) would divide by 0."""


def catmull_rom(keys: Tensor, u: Tensor, alpha: float = 0.5) -> Tensor:
    """Positions (N,3) float64 at parameters u (N,) of the Catmull-Rom spline through keys (K,3).

    Knots are |P_k+1 - P_k|^alpha apart: 0 uniform, 0.5 centripetal (no loops between keys). The end points are
    reflected. Raises :class:`InputError` for fewer than 2 keys or a parameter outside [0, K-1].
    """
    if keys.ndim != 2 or keys.shape[1] != 3 or len(keys) < 2:
        raise InputError(f"keys has the shape {tuple(keys.shape)}; it must be (K, 3) with K at least 2.")
    if not torch.isfinite(keys).all():
        raise InputError("keys holds a value that is not finite; every coordinate must be a number.")
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"alpha is {alpha}; it must lie between 0 (uniform) and 1 (chordal).")
    segment, f = _segments(u, len(keys))
    P = keys.double()
    P = torch.cat((2 * P[:1] - P[1:2], P, 2 * P[-1:] - P[-2:-1]))
    spacing = P.diff(dim=0).norm(dim=1) ** alpha
    spacing = spacing.clamp_min(LEAST_KNOT_SPACING * float(spacing.max()) or 1.0)
    p0, p1, p2, p3 = (P[segment + k] for k in range(4))
    t1, t2, t3 = (d[:, None] for d in torch.stack([spacing[segment + k] for k in range(3)]).cumsum(dim=0))
    t0, t = torch.zeros_like(t1), t1 + f[:, None] * (t2 - t1)

    def between(a: Tensor, b: Tensor, at_a: Tensor, at_b: Tensor) -> Tensor:
        return ((at_b - t) * a + (t - at_a) * b) / (at_b - at_a)

    a1, a2, a3 = between(p0, p1, t0, t1), between(p1, p2, t1, t2), between(p2, p3, t2, t3)
    b1, b2 = between(a1, a2, t0, t2), between(a2, a3, t1, t3)
    return between(b1, b2, t1, t2)


def squad(keys: Tensor, u: Tensor) -> Tensor:
    """Orientations (N,4) float64 at parameters u (N,) of the SQUAD spline through quaternions keys (K,4).

    Keys need not be normalised and may have either sign. Raises :class:`InputError` for fewer than 2 keys, one of
    length 0, or a parameter outside [0, K-1].
    """
    q = same_side(keys)
    segment, f = _segments(u, len(q))
    s, f = squad_controls(q), f[:, None]
    outer = slerp(q[segment], q[segment + 1], f)
    inner = slerp(s[segment], s[segment + 1], f)
    return slerp(outer, inner, 2 * f * (1 - f))


def squad_controls(keys: Tensor) -> Tensor:
    """The inner control quaternions (K,4) of SQUAD; the ends are the keys themselves."""
    q = same_side(keys)
    middle, before, after = q[1:-1], q[:-2], q[2:]
    pull = _log(_multiply(_conjugate(middle), after)) + _log(_multiply(_conjugate(middle), before))
    return torch.cat((q[:1], _multiply(middle, _exp(-pull / 4)), q[-1:]))


def same_side(keys: Tensor) -> Tensor:
    """Quaternions (K,4) normalised and with signs such that neighbours have a dot product of at least 0."""
    if keys.ndim != 2 or keys.shape[1] != 4 or len(keys) < 2:
        raise InputError(f"the quaternions have the shape {tuple(keys.shape)}; they must be (K, 4) with K at least 2.")
    length = keys.double().norm(dim=1, keepdim=True)
    bad = ~(torch.isfinite(length) & (length > 0))
    if bad.any():
        key = int(bad.nonzero()[0, 0])
        raise InputError(f"quaternion {key} is {keys[key].tolist()}; it must be finite and longer than 0.")
    q = keys.double() / length
    flips = torch.where((q[1:] * q[:-1]).sum(dim=1) < 0, -1.0, 1.0).to(q)
    return torch.cat((q[:1], q[1:] * flips.cumprod(dim=0)[:, None]))


def slerp(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """a exp(f log(a^-1 b)) of unit quaternions (...,4) and f (...,1), without choosing the nearer sign."""
    return _multiply(a, _exp(f * _log(_multiply(_conjugate(a), b))))


def spline_path(positions: Tensor, quaternions: Tensor, u: Tensor, alpha: float = 0.5) -> Tensor:
    """Camera-to-world poses (N,4,4) float64 at parameters u (N,) through key positions (K,3), orientations (K,4)."""
    if len(positions) != len(quaternions):
        raise InputError(f"there are {len(positions)} key positions and {len(quaternions)} orientations; give as many.")
    return rigid(rotation_matrix(squad(quaternions, u)), catmull_rom(positions, u, alpha))


def rotation_matrix(quaternion: Tensor) -> Tensor:
    """Rotations (...,3,3) float64 of quaternions (...,4), normalised first."""
    q = quaternion.double()
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), dim=-1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), dim=-1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), dim=-1),
    )
    return torch.stack(rows, dim=-2)


def _segments(u: Tensor, keys: int) -> tuple[Tensor, Tensor]:
    """Segment (N,) int64 and place within it (N,) float64."""
    if u.ndim != 1:
        raise InputError(f"u has the shape {tuple(u.shape)}; it must be (N,).")
    bad = ~((u >= 0) & (u <= keys - 1))
    if bad.any():
        raise InputError(f"the parameter {float(u[bad][0])} lies outside the path; it must be in [0, {keys - 1}].")
    segment = u.double().floor().clamp_max(keys - 2)
    return segment.long(), u.double() - segment


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    w, v, x, y = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    vector = w * y + x * v + torch.linalg.cross(v, y)
    return torch.cat((w * x - (v * y).sum(-1, keepdim=True), vector), dim=-1)


def _conjugate(q: Tensor) -> Tensor:
    return q * q.new_tensor([1.0, -1.0, -1.0, -1.0])


def _log(q: Tensor) -> Tensor:
    """(...,3) half rotation vectors of unit quaternions; zero for the identity and for its negative."""
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    return q[..., 1:] * torch.atan2(sine, q[..., :1]) / sine.clamp_min(torch.finfo(q.dtype).tiny)


def _exp(half: Tensor) -> Tensor:
    angle = half.norm(dim=-1, keepdim=True)
    return torch.cat((torch.cos(angle), half * torch.sinc(angle / torch.pi)), dim=-1)
