"""From rays to colours: nearest hit, sun shadow, texture, light, sky, fog.

The loops over the solids (:func:`nearest`, :func:`in_shadow`) keep a distance and a row a sample; everything else
about the surface is looked up once, after the loops, by :func:`shade`: one long pointwise expression that a compiler
can fuse.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sana_wm.worlds.procedural import intersect, texture
from sana_wm.worlds.procedural.scene import BALLS, BOXES, COLUMNS, GROUND, NUM_COLS, NUM_SOLIDS, SKY, WEDGES, Col, Env

EPSILON = 0.02
"""Smallest distance at which a solid counts, metres: nearer than any camera gets, further than rounding."""

HORIZON = 600.0
"""Where the ground ends, metres along z; fog has taken it long before."""

Rgb = tuple[Tensor, Tensor, Tensor]


class View(NamedTuple):
    """Everything that :func:`shade` reads; one entry a frame (``N``).

    ``xs (P,)`` and ``ys (P,)`` are the sample positions in output pixels, the same for every frame. ``origins`` and
    ``lights`` are the camera centre and the sun's direction in the solids' unit frames.
    """

    xs: Tensor
    ys: Tensor
    intrinsics: Tensor  # (N, 4)
    rotation: Tensor  # (N, 3, 3)
    position: Tensor  # (N, 3)
    frames: Tensor  # (N, rows, 5)
    origins: Tensor  # (N, rows, 3)
    lights: Tensor  # (N, rows, 3)
    surfaces: Tensor  # (N, rows, columns)
    environment: Tensor  # (N, entries)


def make_view(surfaces: Tensor, environment: Tensor, c2w: Tensor, intrinsics: Tensor, xs: Tensor, ys: Tensor) -> View:
    """Compute the per-frame tables. ``c2w (N, 4, 4)``, ``intrinsics (N, 4)``, one scene a frame."""
    frames = intersect.unit_frames(surfaces)
    position = c2w[:, :3, 3]
    offset = position[:, None] - surfaces[..., Col.X : Col.Z + 1]
    origins = intersect.to_unit(frames, *offset.unbind(-1))
    sun = environment[:, None, Env.SUN_X : Env.SUN_Z + 1]
    lights = intersect.to_unit(frames, *sun.unbind(-1))
    return View(xs, ys, intrinsics, c2w[:, :3, :3], position, frames, origins, lights, surfaces, environment)


def _each(table: Tensor, *index: int) -> Tensor:
    """One number a frame, shaped ``(N, 1)`` to broadcast over the samples."""
    position: tuple[slice | int, ...] = (slice(None), *index)
    return table[position][:, None]


def rays(view: View) -> intersect.Vec:
    """World directions of all pixels, ``(N, P)`` each, scaled so that the ray parameter is planar depth."""
    fx, fy, cx, cy = (_each(view.intrinsics, i) for i in range(4))
    x = (view.xs - cx) / fx
    y = (view.ys - cy) / fy
    r = view.rotation
    return (
        _each(r, 0, 0) * x + _each(r, 0, 1) * y + _each(r, 0, 2),
        _each(r, 1, 0) * x + _each(r, 1, 1) * y + _each(r, 1, 2),
        _each(r, 2, 0) * x + _each(r, 2, 1) * y + _each(r, 2, 2),
    )


def _unit(view: View, row: int, x: Tensor, y: Tensor, z: Tensor) -> intersect.Vec:
    a, b, c, d, e = (_each(view.frames, row, i) for i in range(5))
    return a * x + b * z, c * y, d * x + e * z


def _span(view: View, row: int, origin: intersect.Vec, direction: intersect.Vec) -> tuple[Tensor, Tensor]:
    if row < BOXES.stop:
        return intersect.box_span(origin, direction)
    if row < WEDGES.stop:
        taper_x, taper_z = _each(view.surfaces, row, Col.KX), _each(view.surfaces, row, Col.KZ)
        return intersect.wedge_span(origin, direction, taper_x, taper_z)
    if row < COLUMNS.stop:
        return intersect.column_span(origin, direction)
    return intersect.ball_span(origin, direction)


def nearest(view: View, direction: intersect.Vec) -> tuple[Tensor, Tensor]:
    """Planar depth (``intersect.FAR`` for sky) and row of the nearest surface, ``(N, P)`` each."""
    down = direction[1]
    ground = -_each(view.position, 1) / torch.where(down > 1e-6, down, 1e-6)
    on_ground = (ground < HORIZON) & (down > 1e-6)
    best = torch.where(on_ground, ground, intersect.FAR)
    row = torch.where(on_ground, GROUND, SKY).to(torch.int32)
    for k in range(NUM_SOLIDS):
        origin = tuple(_each(view.origins, k, i) for i in range(3))
        near, far = _span(view, k, origin, _unit(view, k, *direction))  # type: ignore[arg-type]
        hit = (near < far) & (near > EPSILON) & (near < best)
        best = torch.where(hit, near, best)
        row = torch.where(hit, k, row)
    return best, row


def in_shadow(view: View, point: intersect.Vec) -> Tensor:
    """Whether a solid stands between ``point`` (relative to the camera centre) and the sun; bool ``(N, P)``."""
    shadow = torch.zeros_like(point[0], dtype=torch.bool)
    for k in range(NUM_SOLIDS):
        x, y, z = _unit(view, k, *point)
        origin = (x + _each(view.origins, k, 0), y + _each(view.origins, k, 1), z + _each(view.origins, k, 2))
        light = tuple(_each(view.lights, k, i) for i in range(3))
        near, far = _span(view, k, origin, light)  # type: ignore[arg-type]
        shadow = shadow | ((near < far) & (far > EPSILON) & (far < 1e8))
    return shadow


class _Surface(NamedTuple):
    """What is known about the hit point after the loop."""

    normal: intersect.Vec  # world
    u: Tensor  # texture coordinates, metres
    v: Tensor
    width_u: Tensor  # footprint of a pixel along u and v, metres
    width_v: Tensor


def _surface(view: View, row: Tensor, depth: Tensor, direction: intersect.Vec, at: _Lookup) -> _Surface:
    hx, hy, hz, cos, sin = at(Col.HX), at(Col.HY), at(Col.HZ), at(Col.COS), at(Col.SIN)
    px, py, pz = (_each(view.position, i) for i in range(3))
    ox, oy, oz = px - at(Col.X), py - at(Col.Y), pz - at(Col.Z)
    dx, dy, dz = direction

    def turn(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return cos * x + sin * z, cos * z - sin * x

    lx, lz = turn(dx, dz)
    x, z = turn(ox + depth * dx, oz + depth * dz)
    y = oy + depth * dy
    ux, uy, uz = x / hx, y / hy, z / hz
    mx, mz = 0.5 * at(Col.KX), 0.5 * at(Col.KZ)
    round_ = row >= COLUMNS.start
    ball = row >= BALLS.start
    flat = row >= NUM_SOLIDS

    # Which face of a box, wedge or cylinder: the one whose plane the point is nearest to.
    rho = torch.sqrt(ux * ux + uz * uz + 1e-12)
    gap_x = torch.where(round_, (rho - 1), ux.abs() - 1 + mx * (1 - uy)) * hx
    gap_z = torch.where(round_, -intersect.FAR, (uz.abs() - 1 + mz * (1 - uy)) * hz)
    gap_y = torch.where(ball, -intersect.FAR, (uy.abs() - 1) * hy)
    cap = ((gap_y > gap_x) & (gap_y > gap_z)) | flat
    side_x = gap_x >= gap_z
    sign_y = torch.where(flat, -1.0, torch.where(uy > 0, 1.0, -1.0))
    zero = torch.zeros_like(depth)
    nx = torch.where(round_, ux / hx, torch.where(side_x, torch.sign(ux) / hx, zero))
    nz = torch.where(round_, uz / hz, torch.where(side_x, zero, torch.sign(uz) / hz))
    ny = torch.where(ball, uy / hy, torch.where(round_, zero, -torch.where(side_x, mx, mz) / hy))
    nx, ny, nz = torch.where(cap, zero, nx), torch.where(cap, sign_y, ny), torch.where(cap, zero, nz)
    scale = torch.rsqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    nx, ny, nz = nx * scale, ny * scale, nz * scale

    # Texture axes: u runs around (or along x), v up (or along z).
    tx = torch.where(cap, 1.0, torch.where(round_, -uz / rho, torch.where(side_x, zero, zero + 1)))
    tz = torch.where(cap, 0.0, torch.where(round_, ux / rho, torch.where(side_x, zero + 1, zero)))
    # Sinusoidal map of round things: keeps areas, no pinching at the poles, no seam (the far half mirrors the near).
    around = (torch.acos((ux / rho).clamp(-0.99999, 0.99999)) - 0.5 * math.pi) * rho * hx
    u = torch.where(cap, x, torch.where(round_, around, torch.where(side_x, z + hz, x + hx)))
    v = torch.where(cap, z, torch.where(ball, torch.acos((-uy).clamp(-0.99999, 0.99999)) * -hy, hy - y))
    u = torch.where(cap & ~flat, u + hx, u)
    v = torch.where(cap & ~flat, v + hz, v)

    # How far the hit point moves when the pixel moves by one: the footprint along u and v.
    facing = nx * lx + ny * dy + nz * lz
    length = torch.sqrt(lx * lx + dy * dy + lz * lz)
    facing = torch.minimum(facing, -0.02 * length)
    width_u, width_v = zero, zero
    for axis in range(2):
        wx, wy, wz = (_each(view.rotation, i, axis) / _each(view.intrinsics, axis) for i in range(3))
        sx, sz = turn(wx, wz)
        slide = (nx * sx + ny * wy + nz * sz) / facing
        step_x, step_y, step_z = sx - slide * lx, wy - slide * dy, sz - slide * lz
        width_u = width_u + (step_x * tx + step_z * tz).abs()
        width_v = width_v + torch.where(cap, step_z, step_y).abs()
    world_x, world_z = cos * nx - sin * nz, sin * nx + cos * nz
    return _Surface((world_x, ny, world_z), u, v, width_u * depth * 0.75, width_v * depth * 0.75)


class _Lookup:
    """Reads a column of the surface table for every pixel's row."""

    def __init__(self, surfaces: Tensor, row: Tensor) -> None:
        self._flat = surfaces.reshape(surfaces.shape[0], -1)
        self._base = row.long() * NUM_COLS

    def __call__(self, column: Col) -> Tensor:
        return torch.gather(self._flat, 1, self._base + int(column))


def _mix(a: Tensor, b: Tensor | float, share: Tensor) -> Tensor:
    return a + (b - a) * share


def shade(view: View, depth: Tensor, row: Tensor, shadow: Tensor) -> Rgb:
    """Colour of the traced samples (see `trace.Hits`): red, green, blue in [0, 255], float16 ``(N, P)`` each."""
    direction = rays(view)
    dx, dy, dz = direction
    sky = row == SKY
    reach = torch.where(sky, 1.0, depth)
    at = _Lookup(view.surfaces, row)
    env = view.environment
    surface = _surface(view, row, reach, direction, at)
    length = torch.sqrt(dx * dx + dy * dy + dz * dz)
    ex, ey, ez = dx / length, dy / length, dz / length

    # Texture. The sky is a plane far above, so that the same noise draws its clouds.
    dome = 1 / (ey.abs() + 0.12)
    u = torch.where(sky, ex * dome, surface.u)
    v = torch.where(sky, ez * dome, surface.v)
    width_u = torch.where(sky, 0.003 * dome, surface.width_u)
    width_v = torch.where(sky, 0.003 * dome, surface.width_v)
    period_u, period_v = at(Col.SU), at(Col.SV)
    p, q, wp, wq = u / period_u, v / period_v, width_u / period_u, width_v / period_v
    line = torch.floor(q)
    p = p + at(Col.SHIFT) * (line - 2 * torch.floor(line * 0.5))
    phase = at(Col.PHASE)
    bar_u, bar_v = texture.bars(p - phase, at(Col.GU), wp), texture.bars(q - phase, at(Col.GV), wq)
    pattern = at(Col.MU) * bar_u + at(Col.MV) * bar_v + at(Col.MUV) * bar_u * bar_v
    near_cell = texture.fade(wp) * texture.fade(wq)
    cell = texture.hash2(torch.floor(p) + 7.0 * row, line + 3.0 * row)
    grain = at(Col.GRAIN)
    wide = torch.maximum(width_u, width_v) / grain
    gu, gv = u / grain, v / grain
    seed = 17.0 * row
    coarse = texture.value_noise(gu * 0.27 + seed, gv * 0.27) * texture.fade(0.27 * wide)
    middle = texture.value_noise(gu + seed, gv + 5.2) * texture.fade(wide)
    fine = texture.value_noise(gu * 3.1, gv * 3.1 + seed) * texture.fade(3.1 * wide)
    mottle = 0.5 * coarse + 0.6 * middle + 0.4 * fine
    patch = at(Col.PATCH) * texture.smoothstep(-0.1, 0.35, coarse + 0.35 * middle)
    share = torch.maximum(pattern, patch).clamp(0, 1)
    bright = (1 + at(Col.TINT) * (cell - 0.5) * near_cell) * (1 + at(Col.MOTTLE) * mottle)
    red = _mix(at(Col.R1), at(Col.R2), share) * bright
    green = _mix(at(Col.G1), at(Col.G2), share) * bright
    blue = _mix(at(Col.B1), at(Col.B2), share) * bright

    # The road: a strip of ground along a wave.
    gx, gz = surface.u, surface.v
    along = _each(env, Env.ROAD_COS) * gx + _each(env, Env.ROAD_SIN) * gz
    across = _each(env, Env.ROAD_COS) * gz - _each(env, Env.ROAD_SIN) * gx - _each(env, Env.ROAD_OFFSET)
    across = across - _each(env, Env.ROAD_BEND) * torch.sin(along * _each(env, Env.ROAD_WAVE))
    ground_width = surface.width_u + surface.width_v + 0.02
    edge = (_each(env, Env.ROAD_HALF) + 0.06 * middle - across.abs()) / ground_width + 0.5
    road = torch.where(row == GROUND, edge.clamp(0, 1), 0.0)
    dash = texture.bars(along / 2.4, torch.full_like(along, 0.5), ground_width / 2.4)
    stripe = ((0.07 - across.abs()) / ground_width + 0.5).clamp(0, 1) * dash * _each(env, Env.ROAD_DASH)
    stripe = stripe * (0.14 / ground_width).clamp(0, 1)
    grit = 1 + 0.10 * mottle
    red = _mix(red, _mix(_each(env, Env.ROAD_R) * grit, 0.90, stripe), road)
    green = _mix(green, _mix(_each(env, Env.ROAD_G) * grit, 0.88, stripe), road)
    blue = _mix(blue, _mix(_each(env, Env.ROAD_B) * grit, 0.80, stripe), road)

    # Light.
    nx, ny, nz = surface.normal
    sun = tuple(_each(env, Env.SUN_X + i) for i in range(3))
    facing = (nx * sun[0] + ny * sun[1] + nz * sun[2]).clamp_min(0)
    lit = torch.where(shadow, 0.0, facing)
    altitude = -(_each(view.position, 1) + reach * dy)
    contact = torch.where(row >= NUM_SOLIDS, 1.0, 0.72 + 0.28 * (altitude / 0.5).clamp(0, 1))
    ambient = (0.72 - 0.28 * ny) * contact
    glow = at(Col.GLOW) * pattern.clamp(0, 1) * torch.where(cell > 0.45, 1.0, 0.12)
    fog = 1 - torch.exp(-_each(env, Env.FOG) * (reach * length))

    # Sky: gradient, clouds, far mountains, sun.
    high = (-ey).clamp_min(0)
    climb = 1 - torch.exp(-3.2 * high)
    cosine = (ex * sun[0] + ey * sun[1] + ez * sun[2]).clamp(-1, 1)
    halo = _each(env, Env.GLOW) * (0.45 * torch.exp((cosine - 1) * 9) + 0.5 * torch.exp((cosine - 1) * 90))
    disc = ((cosine - _each(env, Env.DISC)) * 3000 + 0.5).clamp(0, 1)
    cover = texture.smoothstep(-0.05, 0.75, coarse + 0.45 * middle + 0.15 * fine)
    cloud = cover * _each(env, Env.CLOUDS) * (high * 6).clamp(0, 1)
    level = torch.rsqrt(ex * ex + ez * ez + 1e-9)
    c1, s1 = ex * level, ez * level
    c2, s2 = c1 * c1 - s1 * s1, 2 * c1 * s1
    c4, s4 = c2 * c2 - s2 * s2, 2 * c2 * s2
    c7, s7 = c4 * (c1 * c2 - s1 * s2) - s4 * (s1 * c2 + c1 * s2), s4 * (c1 * c2 - s1 * s2) + c4 * (s1 * c2 + c1 * s2)
    c11, s11 = c7 * c4 - s7 * s4, s7 * c4 + c7 * s4
    a, c = _each(env, Env.RIDGE_A), _each(env, Env.RIDGE_C)
    wave = 0.35 * (c2 * a + s2 * c) + 0.3 * (s4 * a + c4 * c) + 0.25 * (c7 * c - s7 * a) + 0.2 * (s11 * c + c11 * a)
    crest = _each(env, Env.RIDGE) * (1 + wave)
    ridge = ((crest - high) * 260 + 0.5).clamp(0, 1) * (crest > 0.003).to(crest.dtype)
    haze = 0.30 + 0.5 * (high / crest.clamp_min(0.01)).clamp(0, 1)

    out = []
    for i, albedo in enumerate((red, green, blue)):
        horizon, zenith = _each(env, Env.HORIZON_R + i), _each(env, Env.ZENITH_R + i)
        beam, soft = _each(env, Env.SUN_R + i), _each(env, Env.AMBIENT_R + i)
        solid = albedo * (soft * ambient + beam * lit) + glow * albedo
        solid = _mix(solid, horizon, fog)
        air = _mix(horizon, zenith, climb)
        air = _mix(air, 0.35 * horizon + 0.75 * soft + 0.25 * beam, cloud)
        air = air + halo * beam
        air = _mix(air, 0.4 + 0.8 * beam, disc * (1 - 0.8 * cloud))
        air = _mix(air, _mix(horizon, _each(env, Env.RIDGE_R + i), haze), ridge)
        out.append((torch.where(sky, air, solid).clamp(0, 1) * 255).half())
    return out[0], out[1], out[2]
