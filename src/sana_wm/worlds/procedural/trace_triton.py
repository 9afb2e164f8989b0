"""The loop over the solids as one Triton kernel: a program traces a block of samples of one frame.

Same arithmetic and order as `shade.nearest` and `shade.in_shadow`, its plain twins.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sana_wm.worlds.procedural.intersect import FAR
from sana_wm.worlds.procedural.scene import BALLS, BOXES, COLUMNS, GROUND, NUM_COLS, NUM_ROWS, SKY, WEDGES, Col
from sana_wm.worlds.procedural.shade import EPSILON, HORIZON, View

BLOCK = 256


@triton.jit
def _not_zero(x):
    return tl.where(tl.abs(x) < 1e-7, 1e-7, x)


@triton.jit
def _slab(o, d):
    inverse = 1.0 / _not_zero(d)
    return -o * inverse - tl.abs(inverse), -o * inverse + tl.abs(inverse)


@triton.jit
def _box(ox, oy, oz, dx, dy, dz):
    near_x, far_x = _slab(ox, dx)
    near_y, far_y = _slab(oy, dy)
    near_z, far_z = _slab(oz, dz)
    return tl.maximum(tl.maximum(near_x, near_y), near_z), tl.minimum(tl.minimum(far_x, far_y), far_z)


@triton.jit
def _lean(near, far, lean_o, lean_d, o, d, FAR: tl.constexpr):
    slope = _not_zero(d - lean_d)
    t = (lean_o - o) / slope
    near = tl.maximum(near, tl.where(slope < 0, t, -FAR))
    far = tl.minimum(far, tl.where(slope > 0, t, FAR))
    return near, far


@triton.jit
def _wedge(ox, oy, oz, dx, dy, dz, taper_x, taper_z, FAR: tl.constexpr):
    near, far = _slab(oy, dy)
    mx = 0.5 * taper_x
    mz = 0.5 * taper_z
    near, far = _lean(near, far, 1 - mx + mx * oy, mx * dy, ox, dx, FAR)
    near, far = _lean(near, far, 1 - mx + mx * oy, mx * dy, -ox, -dx, FAR)
    near, far = _lean(near, far, 1 - mz + mz * oy, mz * dy, oz, dz, FAR)
    near, far = _lean(near, far, 1 - mz + mz * oy, mz * dy, -oz, -dz, FAR)
    return near, far


@triton.jit
def _quadratic(a, b, c, FAR: tl.constexpr):
    inverse = 1.0 / (a + 1e-12)
    discriminant = b * b - a * c
    root = tl.sqrt(tl.maximum(discriminant, 0.0))
    hit = discriminant > 0
    return tl.where(hit, (-b - root) * inverse, FAR), tl.where(hit, (root - b) * inverse, -FAR)


@triton.jit
def _ball(ox, oy, oz, dx, dy, dz, FAR: tl.constexpr):
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    return _quadratic(a, b, ox * ox + oy * oy + oz * oz - 1, FAR)


@triton.jit
def _column(ox, oy, oz, dx, dy, dz, FAR: tl.constexpr):
    near, far = _quadratic(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - 1, FAR)
    low, high = _slab(oy, dy)
    return tl.maximum(near, low), tl.minimum(far, high)


@triton.jit
def _unit(frame_ptr, x, y, z):
    a = tl.load(frame_ptr)
    b = tl.load(frame_ptr + 1)
    c = tl.load(frame_ptr + 2)
    d = tl.load(frame_ptr + 3)
    e = tl.load(frame_ptr + 4)
    return a * x + b * z, c * y, d * x + e * z


@triton.jit
def _span(k, ox, oy, oz, dx, dy, dz, surface_ptr, KX: tl.constexpr, KZ: tl.constexpr, BOXES: tl.constexpr,
          WEDGES: tl.constexpr, COLUMNS: tl.constexpr, FAR: tl.constexpr):  # fmt: skip
    if k < BOXES:
        near, far = _box(ox, oy, oz, dx, dy, dz)
    elif k < WEDGES:
        near, far = _wedge(ox, oy, oz, dx, dy, dz, tl.load(surface_ptr + KX), tl.load(surface_ptr + KZ), FAR)
    elif k < COLUMNS:
        near, far = _column(ox, oy, oz, dx, dy, dz, FAR)
    else:
        near, far = _ball(ox, oy, oz, dx, dy, dz, FAR)
    return near, far


@triton.jit
def _trace_kernel(
    xs_ptr, ys_ptr, intrinsics_ptr, rotation_ptr, position_ptr, frames_ptr, origins_ptr, lights_ptr, surfaces_ptr,
    depth_ptr, row_ptr, shadow_ptr, samples,
    ROWS: tl.constexpr, COLS: tl.constexpr, KX: tl.constexpr, KZ: tl.constexpr,
    BOXES: tl.constexpr, WEDGES: tl.constexpr, COLUMNS: tl.constexpr, SOLIDS: tl.constexpr,
    GROUND: tl.constexpr, SKY: tl.constexpr, FAR: tl.constexpr, EPSILON: tl.constexpr, HORIZON: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < samples
    lens = intrinsics_ptr + n * 4
    x = (tl.load(xs_ptr + at, inside, 0.0) - tl.load(lens + 2)) / tl.load(lens)
    y = (tl.load(ys_ptr + at, inside, 0.0) - tl.load(lens + 3)) / tl.load(lens + 1)
    r = rotation_ptr + n * 9
    dx = tl.load(r) * x + tl.load(r + 1) * y + tl.load(r + 2)
    dy = tl.load(r + 3) * x + tl.load(r + 4) * y + tl.load(r + 5)
    dz = tl.load(r + 6) * x + tl.load(r + 7) * y + tl.load(r + 8)

    ground = -tl.load(position_ptr + n * 3 + 1) / tl.where(dy > 1e-6, dy, 1e-6)
    on_ground = (ground < HORIZON) & (dy > 1e-6)
    best = tl.where(on_ground, ground, FAR)
    row = tl.where(on_ground, GROUND, SKY)
    frames = frames_ptr + n * ROWS * 5
    origins = origins_ptr + n * ROWS * 3
    lights = lights_ptr + n * ROWS * 3
    surfaces = surfaces_ptr + n * ROWS * COLS
    for k in range(SOLIDS):
        ux, uy, uz = _unit(frames + k * 5, dx, dy, dz)
        o = origins + k * 3
        near, far = _span(k, tl.load(o) + 0.0 * ux, tl.load(o + 1) + 0.0 * ux, tl.load(o + 2) + 0.0 * ux, ux, uy, uz,
                          surfaces + k * COLS, KX, KZ, BOXES, WEDGES, COLUMNS, FAR)  # fmt: skip
        hit = (near < far) & (near > EPSILON) & (near < best)
        best = tl.where(hit, near, best)
        row = tl.where(hit, k, row)

    shadow = best < 0.0
    px = best * dx
    py = best * dy
    pz = best * dz
    for k in range(SOLIDS):
        ux, uy, uz = _unit(frames + k * 5, px, py, pz)
        o = origins + k * 3
        light = lights + k * 3
        near, far = _span(k, ux + tl.load(o), uy + tl.load(o + 1), uz + tl.load(o + 2), tl.load(light) + 0.0 * ux,
                          tl.load(light + 1) + 0.0 * ux, tl.load(light + 2) + 0.0 * ux,
                          surfaces + k * COLS, KX, KZ, BOXES, WEDGES, COLUMNS, FAR)  # fmt: skip
        shadow = shadow | ((near < far) & (far > EPSILON) & (far < 1e8))

    out = n * samples + at
    tl.store(depth_ptr + out, best, inside)
    tl.store(row_ptr + out, row, inside)
    tl.store(shadow_ptr + out, shadow, inside)


def trace_triton(view: View) -> tuple[Tensor, Tensor, Tensor]:
    """depth, row, shadow of every sample of every frame, ``(N, P)``; see `trace.Hits`."""
    count, samples = view.position.shape[0], view.xs.numel()
    depth = torch.empty(count, samples, device=view.xs.device)
    row = torch.empty(count, samples, device=view.xs.device, dtype=torch.int32)
    shadow = torch.empty(count, samples, device=view.xs.device, dtype=torch.bool)
    inputs = (view.xs, view.ys, view.intrinsics, view.rotation, view.position, view.frames, view.origins, view.lights)
    _trace_kernel[(count, triton.cdiv(samples, BLOCK))](
        *(x.contiguous() for x in inputs), view.surfaces.contiguous(), depth, row, shadow, samples,
        ROWS=NUM_ROWS, COLS=NUM_COLS, KX=int(Col.KX), KZ=int(Col.KZ),
        BOXES=BOXES.stop, WEDGES=WEDGES.stop, COLUMNS=COLUMNS.stop, SOLIDS=BALLS.stop,
        GROUND=GROUND, SKY=SKY, FAR=FAR, EPSILON=EPSILON, HORIZON=HORIZON, BLOCK=BLOCK,
    )  # fmt: skip
    return depth, row, shadow
