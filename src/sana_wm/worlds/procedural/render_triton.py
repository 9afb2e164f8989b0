"""The renderer as one Triton kernel: a program traces, shades and averages all samples of a block of pixels of a frame.

`shade.shade` is the same thing in plain PyTorch and easier to read; the sections and names here follow it line by line,
so a change there belongs here too (tests compare the two).
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent. It compiles the jit functions from their source, where an annotation other than
# tl.constexpr would mean something else.

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from sana_wm.worlds.procedural import scene, shade
from sana_wm.worlds.procedural.scene import Col, Env
from sana_wm.worlds.procedural.texture_triton import acos, bars, fade, hash2, mix, saturate, smoothstep, value_noise
from sana_wm.worlds.procedural.trace_triton import (
    COLUMNS_STOP,
    FAR,
    GROUND,
    NUM_COLS,
    NUM_ROWS,
    NUM_SOLIDS,
    SKY,
    WEDGES_STOP,
    in_shadow,
    nearest,
    rays,
)

BLOCK = 128

NUM_ENV = tl.constexpr(scene.NUM_ENV)
C_X, C_Y, C_Z = tl.constexpr(int(Col.X)), tl.constexpr(int(Col.Y)), tl.constexpr(int(Col.Z))
C_COS, C_SIN = tl.constexpr(int(Col.COS)), tl.constexpr(int(Col.SIN))
C_HX, C_HY, C_HZ = tl.constexpr(int(Col.HX)), tl.constexpr(int(Col.HY)), tl.constexpr(int(Col.HZ))
C_KX, C_KZ = tl.constexpr(int(Col.KX)), tl.constexpr(int(Col.KZ))
C_R1, C_R2 = tl.constexpr(int(Col.R1)), tl.constexpr(int(Col.R2))  # green and blue follow
C_SU, C_SV = tl.constexpr(int(Col.SU)), tl.constexpr(int(Col.SV))
C_GU, C_GV = tl.constexpr(int(Col.GU)), tl.constexpr(int(Col.GV))
C_MU, C_MV, C_MUV = tl.constexpr(int(Col.MU)), tl.constexpr(int(Col.MV)), tl.constexpr(int(Col.MUV))
C_PHASE, C_SHIFT = tl.constexpr(int(Col.PHASE)), tl.constexpr(int(Col.SHIFT))
C_TINT, C_MOTTLE = tl.constexpr(int(Col.TINT)), tl.constexpr(int(Col.MOTTLE))
C_GRAIN, C_PATCH, C_GLOW = tl.constexpr(int(Col.GRAIN)), tl.constexpr(int(Col.PATCH)), tl.constexpr(int(Col.GLOW))
E_SUN_X, E_SUN_R = tl.constexpr(int(Env.SUN_X)), tl.constexpr(int(Env.SUN_R))  # the other two of each follow
E_AMBIENT_R, E_ZENITH_R = tl.constexpr(int(Env.AMBIENT_R)), tl.constexpr(int(Env.ZENITH_R))
E_HORIZON_R, E_RIDGE_R = tl.constexpr(int(Env.HORIZON_R)), tl.constexpr(int(Env.RIDGE_R))
E_FOG, E_DISC, E_GLOW = tl.constexpr(int(Env.FOG)), tl.constexpr(int(Env.DISC)), tl.constexpr(int(Env.GLOW))
E_CLOUDS, E_RIDGE = tl.constexpr(int(Env.CLOUDS)), tl.constexpr(int(Env.RIDGE))
E_RIDGE_A, E_RIDGE_C = tl.constexpr(int(Env.RIDGE_A)), tl.constexpr(int(Env.RIDGE_C))
E_ROAD_COS, E_ROAD_SIN = tl.constexpr(int(Env.ROAD_COS)), tl.constexpr(int(Env.ROAD_SIN))
E_ROAD_OFFSET, E_ROAD_HALF = tl.constexpr(int(Env.ROAD_OFFSET)), tl.constexpr(int(Env.ROAD_HALF))
E_ROAD_BEND, E_ROAD_WAVE = tl.constexpr(int(Env.ROAD_BEND)), tl.constexpr(int(Env.ROAD_WAVE))
E_ROAD_R, E_ROAD_DASH = tl.constexpr(int(Env.ROAD_R)), tl.constexpr(int(Env.ROAD_DASH))


@triton.jit
def _surface(at, row, depth, dx, dy, dz, lens, rotation, position):
    """World normal, texture coordinates and footprint of the hit point, as `shade._surface`.

    ``at`` points to every sample's row of the surface table; the others to one frame's tables.
    """
    hx, hy, hz = tl.load(at + C_HX), tl.load(at + C_HY), tl.load(at + C_HZ)
    cos, sin = tl.load(at + C_COS), tl.load(at + C_SIN)
    ox = tl.load(position) - tl.load(at + C_X)
    oy = tl.load(position + 1) - tl.load(at + C_Y)
    oz = tl.load(position + 2) - tl.load(at + C_Z)
    lx, lz = cos * dx + sin * dz, cos * dz - sin * dx
    wx, wz = ox + depth * dx, oz + depth * dz
    x, z = cos * wx + sin * wz, cos * wz - sin * wx
    y = oy + depth * dy
    ux, uy, uz = x / hx, y / hy, z / hz
    mx, mz = 0.5 * tl.load(at + C_KX), 0.5 * tl.load(at + C_KZ)
    round_ = row >= WEDGES_STOP
    ball = row >= COLUMNS_STOP
    flat = row >= NUM_SOLIDS

    # Which face of a box, wedge or cylinder: the one whose plane the point is nearest to.
    rho = tl.sqrt(ux * ux + uz * uz + 1e-12)
    gap_x = tl.where(round_, rho - 1, tl.abs(ux) - 1 + mx * (1 - uy)) * hx
    gap_z = tl.where(round_, -FAR, (tl.abs(uz) - 1 + mz * (1 - uy)) * hz)
    gap_y = tl.where(ball, -FAR, (tl.abs(uy) - 1) * hy)
    cap = ((gap_y > gap_x) & (gap_y > gap_z)) | flat
    side_x = gap_x >= gap_z
    nx = tl.where(round_, ux / hx, tl.where(side_x, tl.where(ux < 0, -1.0, 1.0) / hx, 0.0))
    nz = tl.where(round_, uz / hz, tl.where(side_x, 0.0, tl.where(uz < 0, -1.0, 1.0) / hz))
    ny = tl.where(ball, uy / hy, tl.where(round_, 0.0, -tl.where(side_x, mx, mz) / hy))
    nx = tl.where(cap, 0.0, nx)
    ny = tl.where(cap, tl.where((uy > 0) & (row < NUM_SOLIDS), 1.0, -1.0), ny)
    nz = tl.where(cap, 0.0, nz)
    scale = tl.rsqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    nx, ny, nz = nx * scale, ny * scale, nz * scale

    # Texture axes: u runs around (or along x), v up (or along z).
    tx = tl.where(cap, 1.0, tl.where(round_, -uz / rho, tl.where(side_x, 0.0, 1.0)))
    tz = tl.where(cap, 0.0, tl.where(round_, ux / rho, tl.where(side_x, 1.0, 0.0)))
    around = (acos(tl.minimum(tl.maximum(ux / rho, -0.99999), 0.99999)) - 1.57079633) * rho * hx
    along = acos(tl.minimum(tl.maximum(-uy, -0.99999), 0.99999)) * -hy
    u = tl.where(flat, x, tl.where(cap, x + hx, tl.where(round_, around, tl.where(side_x, z + hz, x + hx))))
    v = tl.where(flat, z, tl.where(cap, z + hz, tl.where(ball, along, hy - y)))

    # How far the hit point moves when the pixel moves by one: the footprint along u and v.
    facing = nx * lx + ny * dy + nz * lz
    length = tl.sqrt(lx * lx + dy * dy + lz * lz)
    facing = tl.minimum(facing, -0.02 * length)
    width_u, width_v = 0.0 * depth, 0.0 * depth
    for axis in tl.static_range(2):
        focal = tl.load(lens + axis)
        wx, wy = tl.load(rotation + axis) / focal, tl.load(rotation + 3 + axis) / focal
        wz = tl.load(rotation + 6 + axis) / focal
        sx, sz = cos * wx + sin * wz, cos * wz - sin * wx
        slide = (nx * sx + ny * wy + nz * sz) / facing
        step_x, step_y, step_z = sx - slide * lx, wy - slide * dy, sz - slide * lz
        width_u += tl.abs(step_x * tx + step_z * tz)
        width_v += tl.abs(tl.where(cap, step_z, step_y))
    return cos * nx - sin * nz, ny, sin * nx + cos * nz, u, v, width_u * depth * 0.75, width_v * depth * 0.75


@triton.jit
def _road(env, u, v, width, middle):
    """How much of the sample is road, and how much of that is the dashed line."""
    cos, sin = tl.load(env + E_ROAD_COS), tl.load(env + E_ROAD_SIN)
    along = cos * u + sin * v
    across = cos * v - sin * u - tl.load(env + E_ROAD_OFFSET)
    across = tl.abs(across - tl.load(env + E_ROAD_BEND) * tl.sin(along * tl.load(env + E_ROAD_WAVE)))
    road = saturate((tl.load(env + E_ROAD_HALF) + 0.06 * middle - across) / width + 0.5)
    dash = bars(along / 2.4, 0.5, width / 2.4)
    stripe = saturate((0.07 - across) / width + 0.5) * dash * tl.load(env + E_ROAD_DASH)
    return road, stripe * saturate(0.14 / width)


@triton.jit
def _ridge(env, ex, ez, high):
    """How much of the sample is far mountains, and their haze."""
    level = tl.rsqrt(ex * ex + ez * ez + 1e-9)
    c1, s1 = ex * level, ez * level
    c2, s2 = c1 * c1 - s1 * s1, 2 * c1 * s1
    c4, s4 = c2 * c2 - s2 * s2, 2 * c2 * s2
    c3, s3 = c1 * c2 - s1 * s2, s1 * c2 + c1 * s2
    c7, s7 = c4 * c3 - s4 * s3, s4 * c3 + c4 * s3
    c11, s11 = c7 * c4 - s7 * s4, s7 * c4 + c7 * s4
    a, c = tl.load(env + E_RIDGE_A), tl.load(env + E_RIDGE_C)
    wave = 0.35 * (c2 * a + s2 * c) + 0.3 * (s4 * a + c4 * c) + 0.25 * (c7 * c - s7 * a) + 0.2 * (s11 * c + c11 * a)
    crest = tl.load(env + E_RIDGE) * (1 + wave)
    ridge = tl.where(crest > 0.003, saturate((crest - high) * 260 + 0.5), 0.0)
    return ridge, 0.30 + 0.5 * saturate(high / tl.maximum(crest, 0.01))


@triton.jit
def _channel(
    i: tl.constexpr, paint: tl.constexpr, at, env, row, share, bright, grit, road, stripe, ambient, lit, glow, fog,
    climb, cloud, halo, disc, ridge, haze,
):  # fmt: skip
    """One colour of a sample, 0 to 255. ``paint`` is the colour of the road's dashes."""
    albedo = mix(tl.load(at + C_R1 + i), tl.load(at + C_R2 + i), share) * bright
    albedo = mix(albedo, mix(tl.load(env + E_ROAD_R + i) * grit, paint, stripe), road)
    horizon, zenith = tl.load(env + E_HORIZON_R + i), tl.load(env + E_ZENITH_R + i)
    beam, soft = tl.load(env + E_SUN_R + i), tl.load(env + E_AMBIENT_R + i)
    solid = albedo * (soft * ambient + beam * lit) + glow * albedo
    solid = mix(solid, horizon, fog)
    air = mix(horizon, zenith, climb)
    air = mix(air, 0.35 * horizon + 0.75 * soft + 0.25 * beam, cloud)
    air = air + halo * beam
    air = mix(air, 0.4 + 0.8 * beam, disc * (1 - 0.8 * cloud))
    air = mix(air, mix(horizon, tl.load(env + E_RIDGE_R + i), haze), ridge)
    return saturate(tl.where(row == SKY, air, solid)) * 255


@triton.jit
def _shade(dx, dy, dz, depth, row, shadow, lens, rotation, position, surfaces, env):
    """`shade.shade` for one block of samples; the pointers are one frame's tables."""
    sky = row == SKY
    reach = tl.where(sky, 1.0, depth)
    at = surfaces + row * NUM_COLS
    nx, ny, nz, ground_u, ground_v, ground_width_u, ground_width_v = _surface(
        at, row, reach, dx, dy, dz, lens, rotation, position
    )
    length = tl.sqrt(dx * dx + dy * dy + dz * dz)
    ex, ey, ez = dx / length, dy / length, dz / length

    # Texture. The sky is a plane far above, so that the same noise draws its clouds.
    dome = 1 / (tl.abs(ey) + 0.12)
    u, v = tl.where(sky, ex * dome, ground_u), tl.where(sky, ez * dome, ground_v)
    width_u = tl.where(sky, 0.003 * dome, ground_width_u)
    width_v = tl.where(sky, 0.003 * dome, ground_width_v)
    period_u, period_v = tl.load(at + C_SU), tl.load(at + C_SV)
    p, q, wp, wq = u / period_u, v / period_v, width_u / period_u, width_v / period_v
    line = tl.floor(q)
    p = p + tl.load(at + C_SHIFT) * (line - 2 * tl.floor(line * 0.5))
    phase = tl.load(at + C_PHASE)
    bar_u = bars(p - phase, tl.load(at + C_GU), wp)
    bar_v = bars(q - phase, tl.load(at + C_GV), wq)
    pattern = tl.load(at + C_MU) * bar_u + tl.load(at + C_MV) * bar_v + tl.load(at + C_MUV) * bar_u * bar_v
    near_cell = fade(wp) * fade(wq)
    cell = hash2(tl.floor(p) + 7.0 * row, line + 3.0 * row)
    grain = tl.load(at + C_GRAIN)
    wide = tl.maximum(width_u, width_v) / grain
    gu, gv = u / grain, v / grain
    seed = 17.0 * row
    coarse = value_noise(gu * 0.27 + seed, gv * 0.27) * fade(0.27 * wide)
    middle = value_noise(gu + seed, gv + 5.2) * fade(wide)
    fine = value_noise(gu * 3.1, gv * 3.1 + seed) * fade(3.1 * wide)
    mottle = 0.5 * coarse + 0.6 * middle + 0.4 * fine
    patch = tl.load(at + C_PATCH) * smoothstep(-0.1, 0.35, coarse + 0.35 * middle)
    share = saturate(tl.maximum(pattern, patch))
    bright = (1 + tl.load(at + C_TINT) * (cell - 0.5) * near_cell) * (1 + tl.load(at + C_MOTTLE) * mottle)

    # The road: a strip of ground along a wave.
    road, stripe = _road(env, ground_u, ground_v, ground_width_u + ground_width_v + 0.02, middle)
    road = tl.where(row == GROUND, road, 0.0)
    grit = 1 + 0.10 * mottle

    # Light.
    sun_x, sun_y, sun_z = tl.load(env + E_SUN_X), tl.load(env + E_SUN_X + 1), tl.load(env + E_SUN_X + 2)
    lit = tl.where(shadow, 0.0, tl.maximum(nx * sun_x + ny * sun_y + nz * sun_z, 0.0))
    altitude = -(tl.load(position + 1) + reach * dy)
    contact = tl.where(row >= NUM_SOLIDS, 1.0, 0.72 + 0.28 * saturate(altitude / 0.5))
    ambient = (0.72 - 0.28 * ny) * contact
    glow = tl.load(at + C_GLOW) * saturate(pattern) * tl.where(cell > 0.45, 1.0, 0.12)
    fog = 1 - tl.exp(-tl.load(env + E_FOG) * (reach * length))

    # Sky: gradient, clouds, far mountains, sun.
    high = tl.maximum(-ey, 0.0)
    climb = 1 - tl.exp(-3.2 * high)
    cosine = tl.minimum(tl.maximum(ex * sun_x + ey * sun_y + ez * sun_z, -1.0), 1.0)
    halo = tl.load(env + E_GLOW) * (0.45 * tl.exp((cosine - 1) * 9) + 0.5 * tl.exp((cosine - 1) * 90))
    disc = saturate((cosine - tl.load(env + E_DISC)) * 3000 + 0.5)
    cover = smoothstep(-0.05, 0.75, coarse + 0.45 * middle + 0.15 * fine)
    cloud = cover * tl.load(env + E_CLOUDS) * saturate(high * 6)
    ridge, haze = _ridge(env, ex, ez, high)

    red = _channel(
        0, 0.90, at, env, row, share, bright, grit, road, stripe, ambient, lit, glow, fog, climb, cloud, halo, disc,
        ridge, haze,
    )  # fmt: skip
    green = _channel(
        1, 0.88, at, env, row, share, bright, grit, road, stripe, ambient, lit, glow, fog, climb, cloud, halo, disc,
        ridge, haze,
    )  # fmt: skip
    blue = _channel(
        2, 0.80, at, env, row, share, bright, grit, road, stripe, ambient, lit, glow, fog, climb, cloud, halo, disc,
        ridge, haze,
    )  # fmt: skip
    return red, green, blue


@triton.jit
def _render_kernel(
    offsets_ptr, intrinsics_ptr, rotation_ptr, position_ptr, frames_ptr, origins_ptr, lights_ptr, surfaces_ptr,
    environment_ptr, picture_ptr, width, pixels, SAMPLES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < pixels
    lens, rotation, position = intrinsics_ptr + n * 4, rotation_ptr + n * 9, position_ptr + n * 3
    frames, origins = frames_ptr + n * (NUM_ROWS * 5), origins_ptr + n * (NUM_ROWS * 3)
    lights, surfaces = lights_ptr + n * (NUM_ROWS * 3), surfaces_ptr + n * (NUM_ROWS * NUM_COLS)
    x, y = (at % width).to(tl.float32), (at // width).to(tl.float32)
    red, green, blue = 0.0 * x, 0.0 * x, 0.0 * x
    for s in range(SAMPLES):
        offset = offsets_ptr + s * 2
        dx, dy, dz = rays(x + tl.load(offset), y + tl.load(offset + 1), lens, rotation)
        depth, row = nearest(dx, dy, dz, position, frames, origins, surfaces)
        shadow = in_shadow(depth * dx, depth * dy, depth * dz, frames, origins, lights, surfaces)
        r, g, b = _shade(
            dx, dy, dz, depth, row, shadow, lens, rotation, position, surfaces, environment_ptr + n * NUM_ENV
        )
        red += r
        green += g
        blue += b
    out = picture_ptr + n * 3 * pixels + at
    tl.store(out, tl.floor(red / SAMPLES + 0.5).to(tl.uint8), inside)
    tl.store(out + pixels, tl.floor(green / SAMPLES + 0.5).to(tl.uint8), inside)
    tl.store(out + 2 * pixels, tl.floor(blue / SAMPLES + 0.5).to(tl.uint8), inside)


def render_triton(
    view: shade.View, height: int, width: int, offsets: Sequence[tuple[float, float]], block: int = BLOCK
) -> Tensor:
    """Whole frames of ``view``, whose ``xs`` and ``ys`` are not read: ``(N, 3, height, width)`` uint8.

    ``offsets`` are the sample positions ``(x, y)`` in pixels from a pixel's centre; their mean is the pixel.
    ``block`` pixels, a power of two, make a program.
    """
    count, pixels, device = view.position.shape[0], height * width, view.position.device
    picture = torch.empty(count, 3, height, width, dtype=torch.uint8, device=device)
    tables = [torch.tensor(offsets, device=device), *(table.contiguous() for table in view[2:])]
    options = {"enable_fp_fusion": False}  # see texture_triton
    with torch.cuda.device_of(picture):
        _render_kernel[(count, triton.cdiv(pixels, block))](
            *tables, picture, width, pixels, SAMPLES=len(offsets), BLOCK=block, **options
        )
    return picture
