"""The kernel of `prepare_heads`: all that lies between a projection and the mixing of tokens, in one pass."""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent; see `depthwise_conv_triton`.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sana_wm.ops.features_triton import _rows, _table

TOKENS = 8
"""Tokens a program takes one after another, so that it reads the gain and the taps once for all of them."""


@triton.jit
def _beside(at, t, stride, known, frames, offset: tl.constexpr):
    """The sum of the tokens `offset` frames before and after."""
    past = tl.load(at - offset * stride, known & (t >= offset), 0.0).to(tl.float32)
    return past + tl.load(at + offset * stride, known & (t + offset < frames), 0.0).to(tl.float32)


@triton.jit
def _by_head(x, live):
    """Sums of squares (BH,) of a tile (BH, ., .), of 1 for a token that there is not."""
    return tl.where(live, tl.sum(tl.sum(x * x, 2), 1), 1.0)


@triton.jit
def _entry(matrix_ptr, i: tl.constexpr, j: tl.constexpr, live, TRANSPOSED: tl.constexpr):
    return tl.load(matrix_ptr + (j * 4 + i if TRANSPOSED else i * 4 + j), live, 0.0)


@triton.jit
def _row_of(matrix_ptr, i: tl.constexpr, x0, x1, x2, x3, live, TRANSPOSED: tl.constexpr):
    first = _entry(matrix_ptr, i, 0, live, TRANSPOSED) * x0 + _entry(matrix_ptr, i, 1, live, TRANSPOSED) * x1
    second = _entry(matrix_ptr, i, 2, live, TRANSPOSED) * x2 + _entry(matrix_ptr, i, 3, live, TRANSPOSED) * x3
    return first + second


@triton.jit
def _prepare_kernel(
    x_ptr, gain_ptr, taps_ptr, matrix_ptr, cos_ptr, sin_ptr, plain_ptr, out_ptr, growth_ptr,
    xb, xt, xs, frames, tokens, channels, heads, count, eps, scale, sign, least,
    D: tl.constexpr, REACH: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr, MOVED: tl.constexpr,
    TRANSPOSED: tl.constexpr, PLAIN: tl.constexpr, GROWTH: tl.constexpr, STEPS: tl.constexpr,
    BH: tl.constexpr, BG: tl.constexpr,
):  # fmt: skip
    """A few tokens with all their heads, as a tile (heads, groups, 4).

    A group is two pairs that turn or, where MOVED, in the first half of a head, a vector that the matrix moves.
    """
    h, g, four = tl.arange(0, BH), tl.arange(0, BG), tl.arange(0, 4)
    each: tl.constexpr = D // 4 if MOVED else D // 2
    still: tl.constexpr = D // 8 if MOVED else 0
    c = (h * D)[:, None, None] + (4 * g)[None, :, None] + four[None, None, :]
    inside = ((h < heads)[:, None] & (g < D // 4)[None, :])[:, :, None] & (four >= 0)[None, None, :]
    pair, turns = 2 * (g - still), (g >= still) & (g < D // 4)
    if NORM:
        gain = tl.load(gain_ptr + c, inside, 0.0) * (1.0 if RELU else scale)
    if REACH > 0:
        here = tl.load(taps_ptr + REACH * channels + c, inside, 0.0)
        tap1 = tl.load(taps_ptr + (REACH - 1) * channels + c, inside, 0.0)
    if REACH > 1:
        tap2 = tl.load(taps_ptr + (REACH - 2) * channels + c, inside, 0.0)
    if REACH > 2:
        tap3 = tl.load(taps_ptr + (REACH - 3) * channels + c, inside, 0.0)
    for step in range(STEPS):
        token = tl.program_id(0).to(tl.int64) * STEPS + step
        live = token < count
        known = inside & live
        s, t, b = token % tokens, token // tokens % frames, token // tokens // frames
        at, place = x_ptr + b * xb + t * xt + s * xs + c, token * channels
        x = tl.load(at, known, 0.0).to(tl.float32)
        if REACH > 0:
            x = x * here + tap1 * _beside(at, t, xt, known, frames, 1)
        if REACH > 1:
            x += tap2 * _beside(at, t, xt, known, frames, 2)
        if REACH > 2:
            x += tap3 * _beside(at, t, xt, known, frames, 3)
        for offset in tl.static_range(4, REACH + 1):
            tap = tl.load(taps_ptr + (REACH - offset) * channels + c, inside, 0.0)
            x += tap * _beside(at, t, xt, known, frames, offset)
        if NORM:
            x *= tl.rsqrt(tl.sum(tl.sum(tl.sum(x * x, 2), 1), 0) / channels + eps) * gain
            if RELU:
                x = tl.maximum(x, 0.0, tl.PropagateNan.ALL) * scale
        if PLAIN:
            tl.store(plain_ptr + place + c, x.to(plain_ptr.dtype.element_ty), known)
        first, second = tl.split(tl.reshape(x, [BH, BG, 2, 2]))  # of four: 0 and 2, 1 and 3
        x0, x2 = tl.split(first)
        x1, x3 = tl.split(second)
        angle = token % (frames * tokens) * each + pair
        there = turns & live
        cos0, cos1 = tl.load(cos_ptr + angle, there, 1.0)[None, :], tl.load(cos_ptr + angle + 1, there, 1.0)[None, :]
        sin0, sin1 = tl.load(sin_ptr + angle, there, 0.0)[None, :], tl.load(sin_ptr + angle + 1, there, 0.0)[None, :]
        sin0, sin1 = sin0 * sign, sin1 * sign
        y0, y1, y2, y3 = x0 * cos0 - x1 * sin0, x0 * sin0 + x1 * cos0, x2 * cos1 - x3 * sin1, x2 * sin1 + x3 * cos1
        if MOVED:
            matrix, moves = matrix_ptr + token * 16, (g < still)[None, :]
            y0 = tl.where(moves, _row_of(matrix, 0, x0, x1, x2, x3, live, TRANSPOSED), y0)
            y1 = tl.where(moves, _row_of(matrix, 1, x0, x1, x2, x3, live, TRANSPOSED), y1)
            y2 = tl.where(moves, _row_of(matrix, 2, x0, x1, x2, x3, live, TRANSPOSED), y2)
            y3 = tl.where(moves, _row_of(matrix, 3, x0, x1, x2, x3, live, TRANSPOSED), y3)
        y = tl.reshape(tl.join(tl.join(y0, y2), tl.join(y1, y3)), [BH, BG, 4])
        tl.store(out_ptr + place + c, y.to(out_ptr.dtype.element_ty), known)
        if GROWTH:
            growth = tl.maximum(_by_head(y, live), least) / tl.maximum(_by_head(x, live), least)
            tl.store(growth_ptr + token * heads + h, growth, (h < heads) & live)


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
    count = B * T * S
    with torch.cuda.device_of(x):
        _prepare_kernel[(triton.cdiv(count, TOKENS),)](
            x, out if gain is None else gain.float().contiguous(), table,
            cos if matrix is None else matrix.float().contiguous(), cos.contiguous(), sin.contiguous(),
            out if kept is None else kept, out, out if growth is None else growth,
            *x.stride()[:3], T, S, C, heads, count, eps, scale, sign, least or 0.0,
            D=D, REACH=reach, NORM=gain is not None, RELU=relu, MOVED=matrix is not None, TRANSPOSED=transposed,
            PLAIN=plain, GROWTH=growth is not None, STEPS=TOKENS, BH=triton.next_power_of_2(heads),
            BG=triton.next_power_of_2(D // 4), num_warps=8 if C > 1024 else 4,
        )  # fmt: skip
    return kept, out, growth
