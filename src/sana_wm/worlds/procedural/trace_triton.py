"""The loops over the solids for Triton: what a ray meets first, and whether the sun reaches that point.

Same arithmetic and order as the functions of `shade` and `intersect` that carry the same names, which are easier to
read.
:func:`trace_triton` runs them alone; `render_triton` goes on to colours.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent. It compiles the jit functions from their source, where an annotation other than
# tl.constexpr would mean something else.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sana_wm.worlds.procedural import intersect, scene, shade
from sana_wm.worlds.procedural.scene import Col

BLOCK = 256

# Triton reads globals only when they are tl.constexpr.
FAR = tl.constexpr(intersect.FAR)
EPSILON = tl.constexpr(shade.EPSILON)
HORIZON = tl.constexpr(shade.HORIZON)
GROUND = tl.constexpr(scene.GROUND)
SKY = tl.constexpr(scene.SKY)
BOXES_STOP = tl.constexpr(scene.BOXES.stop)
WEDGES_STOP = tl.constexpr(scene.WEDGES.stop)
COLUMNS_STOP = tl.constexpr(scene.COLUMNS.stop)
NUM_SOLIDS = tl.constexpr(scene.NUM_SOLIDS)
NUM_ROWS = tl.constexpr(scene.NUM_ROWS)
NUM_COLS = tl.constexpr(scene.NUM_COLS)
KX = tl.constexpr(int(Col.KX))
KZ = tl.constexpr(int(Col.KZ))


@triton.jit
def _not_zero(x):
    return tl.where(tl.abs(x) < 1e-7, 1e-7, x)


@triton.jit
def _slab(o, d):
    inverse = 1.0 / _not_zero(d)
    return -o * inverse - tl.abs(inverse), -o * inverse + tl.abs(inverse)


@triton.jit
def _box_span(ox, oy, oz, dx, dy, dz):
    near_x, far_x = _slab(ox, dx)
    near_y, far_y = _slab(oy, dy)
    near_z, far_z = _slab(oz, dz)
    return tl.maximum(tl.maximum(near_x, near_y), near_z), tl.minimum(tl.minimum(far_x, far_y), far_z)


@triton.jit
def _lean(near, far, lean_o, lean_d, o, d):
    slope = _not_zero(d - lean_d)
    t = (lean_o - o) / slope
    near = tl.maximum(near, tl.where(slope < 0, t, -FAR))
    far = tl.minimum(far, tl.where(slope > 0, t, FAR))
    return near, far


@triton.jit
def _wedge_span(ox, oy, oz, dx, dy, dz, taper_x, taper_z):
    near, far = _slab(oy, dy)
    mx = 0.5 * taper_x
    mz = 0.5 * taper_z
    near, far = _lean(near, far, 1 - mx + mx * oy, mx * dy, ox, dx)
    near, far = _lean(near, far, 1 - mx + mx * oy, mx * dy, -ox, -dx)
    near, far = _lean(near, far, 1 - mz + mz * oy, mz * dy, oz, dz)
    near, far = _lean(near, far, 1 - mz + mz * oy, mz * dy, -oz, -dz)
    return near, far


@triton.jit
def _chord(middle, inverse, squared):
    half = tl.sqrt(tl.maximum((1 - squared) * inverse, 0.0))
    hit = squared < 1
    return tl.where(hit, middle - half, FAR), tl.where(hit, middle + half, -FAR)


@triton.jit
def _ball_span(ox, oy, oz, dx, dy, dz):
    inverse = 1.0 / (dx * dx + dy * dy + dz * dz)
    middle = -(ox * dx + oy * dy + oz * dz) * inverse
    qx = ox + middle * dx
    qy = oy + middle * dy
    qz = oz + middle * dz
    return _chord(middle, inverse, qx * qx + qy * qy + qz * qz)


@triton.jit
def _column_span(ox, oy, oz, dx, dy, dz):
    inverse = 1.0 / (dx * dx + dz * dz + 1e-12)
    middle = -(ox * dx + oz * dz) * inverse
    qx = ox + middle * dx
    qz = oz + middle * dz
    near, far = _chord(middle, inverse, qx * qx + qz * qz)
    low, high = _slab(oy, dy)
    return tl.maximum(near, low), tl.minimum(far, high)


@triton.jit
def _unit(frame, x, y, z):
    a, b, c = tl.load(frame), tl.load(frame + 1), tl.load(frame + 2)
    d, e = tl.load(frame + 3), tl.load(frame + 4)
    return a * x + b * z, c * y, d * x + e * z


@triton.jit
def _span(k, ox, oy, oz, dx, dy, dz, surface):
    if k < BOXES_STOP:
        near, far = _box_span(ox, oy, oz, dx, dy, dz)
    elif k < WEDGES_STOP:
        near, far = _wedge_span(ox, oy, oz, dx, dy, dz, tl.load(surface + KX), tl.load(surface + KZ))
    elif k < COLUMNS_STOP:
        near, far = _column_span(ox, oy, oz, dx, dy, dz)
    else:
        near, far = _ball_span(ox, oy, oz, dx, dy, dz)
    return near, far


@triton.jit
def rays(x, y, lens, rotation):
    """Directions of the positions ``x, y`` in pixels; pointers to one frame's intrinsics and rotation."""
    x = (x - tl.load(lens + 2)) / tl.load(lens)
    y = (y - tl.load(lens + 3)) / tl.load(lens + 1)
    dx = tl.load(rotation) * x + tl.load(rotation + 1) * y + tl.load(rotation + 2)
    dy = tl.load(rotation + 3) * x + tl.load(rotation + 4) * y + tl.load(rotation + 5)
    dz = tl.load(rotation + 6) * x + tl.load(rotation + 7) * y + tl.load(rotation + 8)
    return dx, dy, dz


@triton.jit
def nearest(dx, dy, dz, position, frames, origins, surfaces):
    """Depth and row; pointers to one frame's tables."""
    ground = -tl.load(position + 1) / tl.where(dy > 1e-6, dy, 1e-6)
    on_ground = (ground < HORIZON) & (dy > 1e-6)
    best = tl.where(on_ground, ground, FAR)
    row = tl.where(on_ground, GROUND, SKY)
    for k in range(NUM_SOLIDS):
        ux, uy, uz = _unit(frames + k * 5, dx, dy, dz)
        o = origins + k * 3
        zero = 0.0 * ux  # _span's branches must all see blocks
        ox, oy, oz = tl.load(o) + zero, tl.load(o + 1) + zero, tl.load(o + 2) + zero
        near, far = _span(k, ox, oy, oz, ux, uy, uz, surfaces + k * NUM_COLS)
        hit = (near < far) & (near > EPSILON) & (near < best)
        best = tl.where(hit, near, best)
        row = tl.where(hit, k, row)
    return best, row


@triton.jit
def in_shadow(px, py, pz, frames, origins, lights, surfaces):
    """Whether a solid stands between a point, relative to the camera centre, and the sun; pointers as in `nearest`."""
    shadow = px != px
    for k in range(NUM_SOLIDS):
        ux, uy, uz = _unit(frames + k * 5, px, py, pz)
        o = origins + k * 3
        d = lights + k * 3
        zero = 0.0 * ux
        ox, oy, oz = ux + tl.load(o), uy + tl.load(o + 1), uz + tl.load(o + 2)
        lx, ly, lz = tl.load(d) + zero, tl.load(d + 1) + zero, tl.load(d + 2) + zero
        near, far = _span(k, ox, oy, oz, lx, ly, lz, surfaces + k * NUM_COLS)
        shadow = shadow | ((near < far) & (far > EPSILON) & (far < 1e8))
    return shadow


@triton.jit
def _trace_kernel(
    xs_ptr, ys_ptr, intrinsics_ptr, rotation_ptr, position_ptr, frames_ptr, origins_ptr, lights_ptr, surfaces_ptr,
    depth_ptr, row_ptr, shadow_ptr, samples, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < samples
    frames, origins = frames_ptr + n * (NUM_ROWS * 5), origins_ptr + n * (NUM_ROWS * 3)
    lights, surfaces = lights_ptr + n * (NUM_ROWS * 3), surfaces_ptr + n * (NUM_ROWS * NUM_COLS)
    x, y = tl.load(xs_ptr + at, inside, 0.0), tl.load(ys_ptr + at, inside, 0.0)
    dx, dy, dz = rays(x, y, intrinsics_ptr + n * 4, rotation_ptr + n * 9)
    depth, row = nearest(dx, dy, dz, position_ptr + n * 3, frames, origins, surfaces)
    shadow = in_shadow(depth * dx, depth * dy, depth * dz, frames, origins, lights, surfaces)
    out = n * samples + at
    tl.store(depth_ptr + out, depth, inside)
    tl.store(row_ptr + out, row, inside)
    tl.store(shadow_ptr + out, shadow, inside)


def trace_triton(view: shade.View) -> tuple[Tensor, Tensor, Tensor]:
    """depth, row, shadow of every sample of every frame, ``(N, P)``; see `trace.Hits`."""
    count, samples = view.position.shape[0], view.xs.numel()
    depth = torch.empty(count, samples, device=view.xs.device)
    row = torch.empty(count, samples, device=view.xs.device, dtype=torch.int32)
    shadow = torch.empty(count, samples, device=view.xs.device, dtype=torch.bool)
    inputs = [table.contiguous() for table in view[:-1]]
    with torch.cuda.device_of(depth):
        _trace_kernel[(count, triton.cdiv(samples, BLOCK))](*inputs, depth, row, shadow, samples, BLOCK=BLOCK)
    return depth, row, shadow
