"""The kernels of `features`: what lies between a projection and the mixing of tokens, in one pass over memory each.

All are bound by memory. They compute in float32 and write the dtype of what they read.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent; see `depthwise_conv_triton`.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

GRAD_PROGRAMS = 1024
"""Programs that share a sum over all tokens: a constant, so that its order depends on the shape alone."""
TRANSFORM_HEADS = 32
ENERGY_ROWS = 32


@triton.jit
def _filtered(at, taps_ptr, t, stride, c, known, channels, frames, REACH: tl.constexpr):
    """The symmetric filter along time around one token; `taps` (REACH + 1, C), the last one meets the token itself."""
    total = tl.load(at, known, 0.0).to(tl.float32)
    if REACH > 0:
        total *= tl.load(taps_ptr + REACH * channels + c, known, 0.0)
        for offset in tl.static_range(1, REACH + 1):
            tap = tl.load(taps_ptr + (REACH - offset) * channels + c, known, 0.0)
            past = tl.load(at - offset * stride, known & (t >= offset), 0.0).to(tl.float32)
            future = tl.load(at + offset * stride, known & (t + offset < frames), 0.0).to(tl.float32)
            total += tap * (past + future)
    return total


@triton.jit
def _norm_kernel(
    x_ptr, gain_ptr, taps_ptr, out_ptr, xb, xt, xs, frames, tokens, channels, eps, scale,
    REACH: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One token: filter, then RMSNorm, gain, ReLU and scale; without NORM only the filter."""
    token = tl.program_id(0).to(tl.int64)
    s, t, b = token % tokens, token // tokens % frames, token // tokens // frames
    c = tl.arange(0, BC)
    known = c < channels
    value = _filtered(x_ptr + b * xb + t * xt + s * xs + c, taps_ptr, t, xt, c, known, channels, frames, REACH)
    if NORM:
        value *= tl.rsqrt(tl.sum(value * value, 0) / channels + eps) * tl.load(gain_ptr + c, known, 0.0)
        if RELU:
            value = tl.maximum(value, 0.0, tl.PropagateNan.ALL)
        value *= scale
    tl.store(out_ptr + token * channels + c, value.to(out_ptr.dtype.element_ty), known)


@triton.jit
def _norm_grad_kernel(
    x_ptr, gain_ptr, taps_ptr, grad_ptr, dvalue_ptr, dgain_ptr, xb, xt, xs, gb, gt, gs, frames, tokens, channels, count,
    eps, scale, programs, REACH: tl.constexpr, RELU: tl.constexpr, BC: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """The gradient of what the filter gave, and partial sums (programs, C) of that of the gain."""
    c = tl.arange(0, BC)
    gain = tl.load(gain_ptr + c, c < channels, 0.0)
    dgain = tl.zeros([BC], tl.float32)
    for step in range(STEPS):
        token = tl.program_id(0).to(tl.int64) + step * programs
        s, t, b = token % tokens, token // tokens % frames, token // tokens // frames
        known = (c < channels) & (token < count)
        value = _filtered(x_ptr + b * xb + t * xt + s * xs + c, taps_ptr, t, xt, c, known, channels, frames, REACH)
        inverse = tl.rsqrt(tl.sum(value * value, 0) / channels + eps)
        grad = tl.load(grad_ptr + b * gb + t * gt + s * gs + c, known, 0.0).to(tl.float32) * scale
        if RELU:
            grad = tl.where(value * gain > 0, grad, 0.0)
        dgain += grad * value * inverse
        grad *= gain
        inner = tl.sum(grad * value, 0) / channels
        dvalue = inverse * (grad - value * inner * inverse * inverse)
        tl.store(dvalue_ptr + token * channels + c, dvalue.to(dvalue_ptr.dtype.element_ty), known)
    tl.store(dgain_ptr + tl.program_id(0) * channels + c, dgain, c < channels)


@triton.jit
def _tap_grad_kernel(
    x_ptr, dvalue_ptr, dtap_ptr, xb, xt, xs, frames, tokens, channels, count, programs, offset,
    BC: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Partial sums (programs, C) of the gradient of the tap that meets the frames `offset` before and after."""
    c = tl.arange(0, BC)
    total = tl.zeros([BC], tl.float32)
    for step in range(STEPS):
        token = tl.program_id(0).to(tl.int64) + step * programs
        s, t, b = token % tokens, token // tokens % frames, token // tokens // frames
        known = (c < channels) & (token < count)
        at = x_ptr + b * xb + t * xt + s * xs + c
        dvalue = tl.load(dvalue_ptr + token * channels + c, known, 0.0).to(tl.float32)
        past = tl.load(at - offset * xt, known & (t >= offset), 0.0).to(tl.float32)
        future = tl.load(at + offset * xt, known & (t + offset < frames) & (offset > 0), 0.0).to(tl.float32)
        total += dvalue * (past + future)
    tl.store(dtap_ptr + tl.program_id(0) * channels + c, total, c < channels)


@triton.jit
def _entry(matrix_ptr, known, i: tl.constexpr, j: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Element (i, j) of the matrix of every head, a column beside the head's groups."""
    return tl.load(matrix_ptr + (j * 4 + i if TRANSPOSED else i * 4 + j), known, 0.0)[:, None]


@triton.jit
def _moved(matrix_ptr, known, x0, x1, x2, x3, i: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Row i of the matrix times the groups (x0, x1, x2, x3)."""
    first = _entry(matrix_ptr, known, i, 0, TRANSPOSED) * x0 + _entry(matrix_ptr, known, i, 1, TRANSPOSED) * x1
    second = _entry(matrix_ptr, known, i, 2, TRANSPOSED) * x2 + _entry(matrix_ptr, known, i, 3, TRANSPOSED) * x3
    return first + second


@triton.jit
def _transform_kernel(
    x_ptr, matrix_ptr, cos_ptr, sin_ptr, out_ptr, xb, xn, count, tokens, heads, sign,
    D: tl.constexpr, MOVED: tl.constexpr, TRANSPOSED: tl.constexpr, BR: tl.constexpr, BG: tl.constexpr,
    BP: tl.constexpr,
):  # fmt: skip
    """Turn the pairs of heads by sign * angle; where MOVED, of their second half, and move the groups of the first.

    A program takes BR heads, counted over all tokens. A head has D/2 pairs, or D/8 groups and D/4 pairs. What is read
    and written lies in one row of memory, so that a thread takes many channels at once.
    """
    r = tl.program_id(0) * BR + tl.arange(0, BR)
    inside = r < count
    token = r // heads  # of all clips
    b = token // tokens
    n = token - b * tokens
    row = x_ptr + b.to(tl.int64) * xb + n.to(tl.int64) * xn + (r - token * heads) * D
    out = out_ptr + r.to(tl.int64) * D
    each: tl.constexpr = D // 4 if MOVED else D // 2
    half: tl.constexpr = D // 2 if MOVED else 0
    c, p = tl.arange(0, 2 * BP), tl.arange(0, BP)
    known = inside[:, None] & (c < 2 * each)[None, :]
    pair = tl.load(row[:, None] + (half + c)[None, :], known, 0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(pair, [BR, BP, 2]))
    angle, turns = n[:, None] * each + p[None, :], inside[:, None] & (p < each)[None, :]
    cos, sin = tl.load(cos_ptr + angle, turns, 0.0), tl.load(sin_ptr + angle, turns, 0.0) * sign
    turned = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), [BR, 2 * BP])
    tl.store(out[:, None] + (half + c)[None, :], turned.to(out_ptr.dtype.element_ty), known)
    if MOVED:
        c = tl.arange(0, 4 * BG)
        known = inside[:, None] & (c < D // 2)[None, :]
        group = tl.load(row[:, None] + c[None, :], known, 0.0).to(tl.float32)
        first, second = tl.split(tl.reshape(group, [BR, BG, 2, 2]))  # of four: 0 and 2, 1 and 3
        x0, x2 = tl.split(first)
        x1, x3 = tl.split(second)
        matrix = matrix_ptr + token * 16
        y0 = _moved(matrix, inside, x0, x1, x2, x3, 0, TRANSPOSED)
        y1 = _moved(matrix, inside, x0, x1, x2, x3, 1, TRANSPOSED)
        y2 = _moved(matrix, inside, x0, x1, x2, x3, 2, TRANSPOSED)
        y3 = _moved(matrix, inside, x0, x1, x2, x3, 3, TRANSPOSED)
        moved = tl.reshape(tl.join(tl.join(y0, y2), tl.join(y1, y3)), [BR, 4 * BG])
        tl.store(out[:, None] + c[None, :], moved.to(out_ptr.dtype.element_ty), known)


@triton.jit
def _energy_kernel(x_ptr, out_ptr, count, D: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr):
    r, d = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR), tl.arange(0, BD)
    x = tl.load(x_ptr + r[:, None] * D + d[None, :], (r < count)[:, None] & (d < D)[None, :], 0.0).to(tl.float32)
    tl.store(out_ptr + r, tl.sum(x * x, 1), r < count)


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _table(taps: Tensor | None, like: Tensor) -> tuple[Tensor, int]:
    """Taps (C,1,K) as (K,C) float32, and how far they reach."""
    if taps is None:
        return like, 0
    return taps[:, 0].t().float().contiguous(), taps.shape[-1] - 1


def _shared_out(count: int) -> tuple[int, int]:
    """Programs, and tokens each of them takes."""
    programs = min(count, GRAD_PROGRAMS)
    return programs, triton.cdiv(count, programs)


def normed(
    x: Tensor, gain: Tensor | None, taps: Tensor | None, eps: float, scale: float, relu: bool
) -> Tensor:
    """(B,T,S,C) contiguous; without a gain only the filter."""
    x = _rows(x)
    B, T, S, C = x.shape
    out = torch.empty(B, T, S, C, dtype=x.dtype, device=x.device)
    gains = None if gain is None else gain.float().contiguous()
    table, reach = _table(taps, out)
    width = triton.next_power_of_2(C)
    with torch.cuda.device_of(x):
        _norm_kernel[(B * T * S,)](
            x, out if gains is None else gains, table, out, *x.stride()[:3], T, S, C, eps, scale,
            REACH=reach, NORM=gain is not None, RELU=relu, BC=width, num_warps=8 if width > 1024 else 4,
        )  # fmt: skip
    return out


def norm_grads(
    grad: Tensor, x: Tensor, gain: Tensor, taps: Tensor | None, eps: float, scale: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x, of the gain and of the taps."""
    x, grad = _rows(x), _rows(grad)
    B, T, S, C = x.shape
    count = B * T * S
    table, reach = _table(taps, x)
    dvalue = torch.empty(B, T, S, C, dtype=x.dtype, device=x.device)
    programs, steps = _shared_out(count)
    partial = torch.empty(programs, C, device=x.device)
    width = triton.next_power_of_2(C)
    warps = 8 if width > 1024 else 4
    with torch.cuda.device_of(x):
        _norm_grad_kernel[(programs,)](
            x, gain.float().contiguous(), table, grad, dvalue, partial, *x.stride()[:3], *grad.stride()[:3], T, S, C,
            count, eps, scale, programs, REACH=reach, RELU=relu, BC=width, STEPS=steps, num_warps=warps,
        )  # fmt: skip
        dgain = partial.sum(0).to(gain.dtype)
        if taps is None:
            return dvalue, dgain, None
        dtaps = torch.empty(C, 1, reach + 1, dtype=taps.dtype, device=x.device)
        for offset in range(reach + 1):
            _tap_grad_kernel[(programs,)](
                x, dvalue, partial, *x.stride()[:3], T, S, C, count, programs, offset,
                BC=width, STEPS=steps, num_warps=warps,
            )  # fmt: skip
            dtaps[:, 0, reach - offset] = partial.sum(0)
    return normed(dvalue, None, taps, eps, 1.0, False), dgain, dtaps  # the filter is its own transpose


def transformed(
    x: Tensor, matrix: Tensor | None, cos: Tensor, sin: Tensor, sign: float, transposed: bool
) -> Tensor:
    """(B,N,h,D) contiguous; matrix (B,N,4,4) float32, cos and sin (N,.) float32."""
    B, N, h, D = x.shape
    if x.stride(3) != 1 or x.stride(2) != D:
        x = x.contiguous()
    out = torch.empty(B, N, h, D, dtype=x.dtype, device=x.device)
    moved = matrix is not None
    groups, pairs = D // 8, D // (4 if moved else 2)
    with torch.cuda.device_of(x):
        _transform_kernel[(triton.cdiv(B * N * h, TRANSFORM_HEADS),)](
            x, cos if matrix is None else matrix.float().contiguous(), cos.contiguous(), sin.contiguous(), out,
            x.stride(0), x.stride(1), B * N * h, N, h, sign, D=D, MOVED=moved, TRANSPOSED=transposed,
            BR=TRANSFORM_HEADS, BG=triton.next_power_of_2(groups), BP=triton.next_power_of_2(pairs), num_warps=4,
        )  # fmt: skip
    return out


def energies(x: Tensor) -> Tensor:
    """Sums of squares (...,) float32 over the last axis."""
    x = x.contiguous()
    count, D = x.numel() // x.shape[-1], x.shape[-1]
    out = torch.empty(x.shape[:-1], device=x.device)
    with torch.cuda.device_of(x):
        _energy_kernel[(triton.cdiv(count, ENERGY_ROWS),)](
            x, out, count, D=D, BR=ENERGY_ROWS, BD=triton.next_power_of_2(D), num_warps=4
        )
    return out
