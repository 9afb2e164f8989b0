"""The kernel of `prepare_heads`: all that lies between a projection and the mixing of tokens, in one pass."""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent; see `depthwise_conv_triton`.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sana_wm.ops.features_triton import _filtered, _rows, _table


@triton.jit
def _normed(value, inverse, gain_ptr, c, known, scale, RELU: tl.constexpr):
    value *= inverse * tl.load(gain_ptr + c, known, 0.0)
    if RELU:
        value = tl.maximum(value, 0.0, tl.PropagateNan.ALL)
    return value * scale


@triton.jit
def _by_head(x):
    """Sums of squares (BH,) of a tile (BH, ., .)."""
    return tl.sum(tl.sum(x * x, 2), 1)


@triton.jit
def _entry(matrix_ptr, i: tl.constexpr, j: tl.constexpr, TRANSPOSED: tl.constexpr):
    return tl.load(matrix_ptr + (j * 4 + i if TRANSPOSED else i * 4 + j))


@triton.jit
def _row_of(matrix_ptr, i: tl.constexpr, x0, x1, x2, x3, TRANSPOSED: tl.constexpr):
    first = _entry(matrix_ptr, i, 0, TRANSPOSED) * x0 + _entry(matrix_ptr, i, 1, TRANSPOSED) * x1
    return first + _entry(matrix_ptr, i, 2, TRANSPOSED) * x2 + _entry(matrix_ptr, i, 3, TRANSPOSED) * x3


@triton.jit
def _prepare_kernel(
    x_ptr, gain_ptr, taps_ptr, matrix_ptr, cos_ptr, sin_ptr, plain_ptr, out_ptr, growth_ptr,
    xb, xt, xs, frames, tokens, channels, heads, eps, scale, sign, least,
    D: tl.constexpr, REACH: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr, MOVED: tl.constexpr,
    TRANSPOSED: tl.constexpr, PLAIN: tl.constexpr, GROWTH: tl.constexpr,
    BH: tl.constexpr, BG: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    """One token with all its heads: their pairs, and where MOVED, of the second half only, before it groups of four."""
    token = tl.program_id(0).to(tl.int64)
    s, t, b = token % tokens, token // tokens % frames, token // tokens // frames
    row, place = x_ptr + b * xb + t * xt + s * xs, token * channels
    each: tl.constexpr = D // 4 if MOVED else D // 2
    half: tl.constexpr = D // 2 if MOVED else 0
    h, e, two = tl.arange(0, BH), tl.arange(0, BE), tl.arange(0, 2)
    c = (h * D + half)[:, None, None] + (2 * e)[None, :, None] + two[None, None, :]
    known = ((h < heads)[:, None] & (e < each)[None, :])[:, :, None] & (two >= 0)[None, None, :]
    pair = _filtered(row + c, taps_ptr, t, xt, c, known, channels, frames, REACH)
    if MOVED:
        g, four = tl.arange(0, BG), tl.arange(0, 4)
        cg = (h * D)[:, None, None] + (4 * g)[None, :, None] + four[None, None, :]
        there = ((h < heads)[:, None] & (g < D // 8)[None, :])[:, :, None] & (four >= 0)[None, None, :]
        group = _filtered(row + cg, taps_ptr, t, xt, cg, there, channels, frames, REACH)
    if NORM:
        total = tl.sum(_by_head(pair), 0)
        if MOVED:
            total += tl.sum(_by_head(group), 0)
        inverse = tl.rsqrt(total / channels + eps)
        pair = _normed(pair, inverse, gain_ptr, c, known, scale, RELU)
        if MOVED:
            group = _normed(group, inverse, gain_ptr, cg, there, scale, RELU)
    if PLAIN:
        tl.store(plain_ptr + place + c, pair.to(plain_ptr.dtype.element_ty), known)
        if MOVED:
            tl.store(plain_ptr + place + cg, group.to(plain_ptr.dtype.element_ty), there)
    even, odd = tl.split(pair)
    angle = (token % (frames * tokens)) * each + e
    cos, sin = tl.load(cos_ptr + angle, e < each, 0.0), tl.load(sin_ptr + angle, e < each, 0.0) * sign
    turned = tl.join(even * cos[None, :] - odd * sin[None, :], even * sin[None, :] + odd * cos[None, :])
    tl.store(out_ptr + place + c, turned.to(out_ptr.dtype.element_ty), known)
    if MOVED:
        matrix = matrix_ptr + token * 16
        first, second = tl.split(tl.reshape(group, [BH, BG, 2, 2]))  # of four: 0 and 2, 1 and 3
        x0, x2 = tl.split(first)
        x1, x3 = tl.split(second)
        y0, y1 = _row_of(matrix, 0, x0, x1, x2, x3, TRANSPOSED), _row_of(matrix, 1, x0, x1, x2, x3, TRANSPOSED)
        y2, y3 = _row_of(matrix, 2, x0, x1, x2, x3, TRANSPOSED), _row_of(matrix, 3, x0, x1, x2, x3, TRANSPOSED)
        moved = tl.reshape(tl.join(tl.join(y0, y2), tl.join(y1, y3)), [BH, BG, 4])
        tl.store(out_ptr + place + cg, moved.to(out_ptr.dtype.element_ty), there)
        if GROWTH:
            turned_energy = _by_head(pair)  # turning changes no length
            before, after = _by_head(group) + turned_energy, _by_head(moved) + turned_energy
            tl.store(growth_ptr + token * heads + h, tl.maximum(after, least) / tl.maximum(before, least), h < heads)


def prepared(
    x: Tensor, heads: int, gain: Tensor | None, taps: Tensor | None, eps: float, scale: float, relu: bool,
    matrix: Tensor | None, cos: Tensor, sin: Tensor, sign: float, transposed: bool, *, plain: bool, least: float | None,
) -> tuple[Tensor | None, Tensor, Tensor | None]:  # fmt: skip
    """Normed (if `plain`), turned and moved (B,N,h,D), and with `least` the growth of energies (B,N,h) by moving."""
    x = _rows(x)
    B, T, S, C = x.shape
    D = C // heads
    shape = (B, T * S, heads, D)
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    kept = torch.empty(shape, dtype=x.dtype, device=x.device) if plain else None
    growth = None if least is None else torch.empty(shape[:3], device=x.device)
    table, reach = _table(taps, out)
    moved = matrix is not None
    width = max(2, triton.next_power_of_2(heads))
    with torch.cuda.device_of(x):
        _prepare_kernel[(B * T * S,)](
            x, out if gain is None else gain.float().contiguous(), table,
            cos if matrix is None else matrix.float().contiguous(), cos.contiguous(), sin.contiguous(),
            out if kept is None else kept, out, out if growth is None else growth,
            *x.stride()[:3], T, S, C, heads, eps, scale, sign, least or 0.0,
            D=D, REACH=reach, NORM=gain is not None, RELU=relu, MOVED=moved, TRANSPOSED=transposed, PLAIN=plain,
            GROWTH=growth is not None, BH=width, BG=triton.next_power_of_2(max(1, D // 8)),
            BE=triton.next_power_of_2(D // 4 if moved else D // 2), num_warps=8 if C > 1024 else 4,
        )  # fmt: skip
    return kept, out, growth
