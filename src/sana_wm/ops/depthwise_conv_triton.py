"""The kernels of `depthwise_conv`: the convolution (its own gradient with mirrored taps) and the weights' gradient.

Both are bound by memory. A program owns a block of channels and of columns and walks down the rows, so that every pixel
is read three times, for itself and its two neighbours in the row: once from far and twice from the cache beside the
core. What the rows above and below need of it stays in registers. The rows are unrolled and read a few ahead, because
a store holds back every later load (the compiler cannot know that they never meet).

Columns are counted through all images, F*W of them, so that a block of columns wastes nothing whatever the width.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent. It compiles the jit functions from their source, where an annotation other than
# tl.constexpr would mean something else.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# A block of 8 x 64 values is four a thread with four warps: 64 channels in bf16 are one line of the cache, and more
# values a thread would fill the registers with taps instead of loads under way.
BLOCK_COLUMNS = 8
BLOCK_CHANNELS = 64
NUM_WARPS = 4

MAX_ROWS = 12
"""Rows a program walks down; a taller image is cut into equal parts, whose first and last rows are read twice."""

GRAD_PROGRAMS = 2048
"""About how many programs share the weights' gradient: several rounds of what a large device runs at a time, and still
few enough that their partial sums (10 numbers a channel each) weigh nothing. A constant, so that the order of the sums,
and with it every bit of the result, depends on the shape alone."""


@triton.jit
def _load_row(at, row, height, channels, left, here, right):
    """The pixels before, at and after ``at`` in one row; zeros outside the image."""
    inside = (row >= 0) & (row < height)
    before = tl.load(at - channels, left & inside, 0.0)
    middle = tl.load(at, here & inside, 0.0)
    after = tl.load(at + channels, right & inside, 0.0)
    return before, middle, after


@triton.jit
def _block(tile, c, columns, channels, height, width, row_tiles, ROWS: tl.constexpr, BLOCK_P: tl.constexpr):
    """Where a tile of columns and rows lies: its first row, the offset of every column there, and three masks.

    The masks tell which columns exist, have a left and have a right neighbour.
    """
    top = tile % row_tiles * ROWS
    j = tile // row_tiles * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    column = j % width
    pixel = ((j // width).to(tl.int64) * height + top) * width + column
    here = (j < columns) & (c < channels)
    return top, pixel * channels + c, here & (column > 0), here, here & (column < width - 1)


@triton.jit
def _conv_kernel(
    x_ptr, taps_ptr, bias_ptr, out_ptr, columns, channels, height, width, row_tiles, MIRROR: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """``taps`` (9, C) and ``bias`` (C,) are float32. ``MIRROR`` turns the filter around and leaves the bias out."""
    # The channel blocks of a pixel lie side by side in memory, and so do their programs in time.
    channel_tiles = tl.cdiv(channels, BLOCK_C)
    c = tl.program_id(0) % channel_tiles * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    tile = tl.program_id(0) // channel_tiles
    top, offset, left, here, right = _block(tile, c, columns, channels, height, width, row_tiles, ROWS, BLOCK_P)
    at, out, stride = x_ptr + offset, out_ptr + offset, width * channels

    # Input row i - 1 of the tile is read three steps before its turn.
    rows_0 = _load_row(at - stride, top - 1, height, channels, left, here, right)
    rows_1 = _load_row(at, top, height, channels, left, here, right)
    rows_2 = _load_row(at + stride, top + 1, height, channels, left, here, right)

    first: tl.constexpr = 8 if MIRROR else 0
    step = -channels if MIRROR else channels
    tap, known = taps_ptr + first * channels + c, c < channels
    t0, t1, t2 = tl.load(tap, known), tl.load(tap + step, known), tl.load(tap + 2 * step, known)
    t3, t4, t5 = tl.load(tap + 3 * step, known), tl.load(tap + 4 * step, known), tl.load(tap + 5 * step, known)
    t6, t7, t8 = tl.load(tap + 6 * step, known), tl.load(tap + 7 * step, known), tl.load(tap + 8 * step, known)
    if MIRROR:
        start = tl.zeros([1, BLOCK_C], tl.float32)
    else:
        start = tl.load(bias_ptr + c, known)

    upper = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    lower = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for i in tl.static_range(ROWS + 2):
        a, b, d = rows_0
        rows_0, rows_1 = rows_1, rows_2
        if i + 3 < ROWS + 2:
            rows_2 = _load_row(at + (i + 2) * stride, top + i + 2, height, channels, left, here, right)
        a, b, d = a.to(tl.float32), b.to(tl.float32), d.to(tl.float32)
        # The row is the last of three for output row i - 2, the second for i - 1 and the first for i.
        if i >= 2:
            done = upper + a * t6 + b * t7 + d * t8
            tl.store(out + (i - 2) * stride, done.to(out_ptr.dtype.element_ty), here & (top + i - 2 < height))
        if i >= 1:
            upper = lower + a * t3 + b * t4 + d * t5
        lower = start + a * t0 + b * t1 + d * t2


@triton.jit
def _weight_grad_kernel(
    x_ptr, grad_ptr, partial_ptr, columns, channels, height, width, row_tiles, tiles, splits, ROWS: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums over every ``splits``-th tile: ``partial`` (splits, 10, C), nine taps and the bias, float32."""
    channel_tiles = tl.cdiv(channels, BLOCK_C)
    c = tl.program_id(0) % channel_tiles * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    split = tl.program_id(0) // channel_tiles
    tile = split
    stride = width * channels
    zero = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    s0, s1, s2, s3, s4, s5, s6, s7, s8, total = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    while tile < tiles:  # the interpreter takes no range of run-time values
        top, offset, left, here, right = _block(tile, c, columns, channels, height, width, row_tiles, ROWS, BLOCK_P)
        at, grad = x_ptr + offset, grad_ptr + offset
        # Row i - 1 of x and row i of the gradient are read two steps before their turn.
        rows_0 = _load_row(at - stride, top - 1, height, channels, left, here, right)
        grad_0 = tl.load(grad, here, 0.0)
        rows_1 = _load_row(at, top, height, channels, left, here, right)
        grad_1 = grad_0
        if ROWS > 1:
            grad_1 = tl.load(grad + stride, here & (top + 1 < height), 0.0)
        g1, g2 = zero, zero
        for i in tl.static_range(ROWS + 2):
            a, b, d = rows_0
            g0 = grad_0.to(tl.float32)
            rows_0, grad_0 = rows_1, grad_1
            if i + 2 < ROWS + 2:
                rows_1 = _load_row(at + (i + 1) * stride, top + i + 1, height, channels, left, here, right)
            if i + 2 < ROWS:
                grad_1 = tl.load(grad + (i + 2) * stride, here & (top + i + 2 < height), 0.0)
            a, b, d = a.to(tl.float32), b.to(tl.float32), d.to(tl.float32)
            # The gradient's rows outside the tile are another tile's part.
            if i < ROWS:
                s0, s1, s2, total = s0 + a * g0, s1 + b * g0, s2 + d * g0, total + g0
            if i >= 1 and i <= ROWS:
                s3, s4, s5 = s3 + a * g1, s4 + b * g1, s5 + d * g1
            if i >= 2:
                s6, s7, s8 = s6 + a * g2, s7 + b * g2, s8 + d * g2
            g2 = g1
            g1 = g0
        tile += splits
    at = partial_ptr + split.to(tl.int64) * 10 * channels + c
    known = c < channels
    tl.store(at, tl.sum(s0, 0, keep_dims=True), known)
    tl.store(at + channels, tl.sum(s1, 0, keep_dims=True), known)
    tl.store(at + 2 * channels, tl.sum(s2, 0, keep_dims=True), known)
    tl.store(at + 3 * channels, tl.sum(s3, 0, keep_dims=True), known)
    tl.store(at + 4 * channels, tl.sum(s4, 0, keep_dims=True), known)
    tl.store(at + 5 * channels, tl.sum(s5, 0, keep_dims=True), known)
    tl.store(at + 6 * channels, tl.sum(s6, 0, keep_dims=True), known)
    tl.store(at + 7 * channels, tl.sum(s7, 0, keep_dims=True), known)
    tl.store(at + 8 * channels, tl.sum(s8, 0, keep_dims=True), known)
    tl.store(at + 9 * channels, tl.sum(total, 0, keep_dims=True), known)


def _check(x: Tensor, weight: Tensor, height: int, width: int) -> None:
    """A wrong size would make the kernels read what is not theirs."""
    if x.ndim != 3 or x.shape[1] != height * width or tuple(weight.shape) != (x.shape[2], 1, 3, 3):
        raise ValueError(f"tokens {tuple(x.shape)} and weight {tuple(weight.shape)} do not fit {height} x {width}")


def _row_tiles(height: int) -> tuple[int, int]:
    """How many tiles of how many rows."""
    tiles = triton.cdiv(height, MAX_ROWS)
    return tiles, triton.cdiv(height, tiles)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, height: int, width: int) -> Tensor:
    """The convolution of x (F, H*W, C) with weight (C, 1, 3, 3) and bias (C,), in x's dtype.

    Without a bias the filter is turned around: the gradient of x from that of the result.
    """
    _check(x, weight, height, width)
    x = x.contiguous()
    images, _, channels = x.shape
    out = torch.empty_like(x)
    # Neighbouring channels side by side, as the tokens have them.
    taps = torch.empty(9, channels, device=x.device).copy_(weight.reshape(channels, 9).t())
    row_tiles, rows = _row_tiles(height)
    tiles = triton.cdiv(images * width, BLOCK_COLUMNS) * row_tiles
    grid = (triton.cdiv(channels, BLOCK_CHANNELS) * tiles,)
    with torch.cuda.device_of(x):
        _conv_kernel[grid](
            x, taps, taps if bias is None else bias.float().contiguous(), out, images * width, channels, height, width,
            row_tiles, MIRROR=bias is None, ROWS=rows, BLOCK_P=BLOCK_COLUMNS, BLOCK_C=BLOCK_CHANNELS,
            num_warps=NUM_WARPS,
        )  # fmt: skip
    return out


def weight_grads(grad: Tensor, x: Tensor, weight: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The gradients of the weight (C, 1, 3, 3) and the bias (C,), in the weight's dtype; grad and x (F, H*W, C)."""
    _check(x, weight, height, width)
    _check(grad, weight, height, width)
    x, grad = x.contiguous(), grad.contiguous()
    images, _, channels = x.shape
    row_tiles, rows = _row_tiles(height)
    tiles = triton.cdiv(images * width, BLOCK_COLUMNS) * row_tiles
    channel_tiles = triton.cdiv(channels, BLOCK_CHANNELS)
    splits = max(1, min(tiles, triton.cdiv(GRAD_PROGRAMS, channel_tiles)))
    partial = torch.empty(splits, 10, channels, device=x.device)
    with torch.cuda.device_of(x):
        _weight_grad_kernel[(channel_tiles * splits,)](
            x, grad, partial, images * width, channels, height, width, row_tiles, tiles, splits, ROWS=rows,
            BLOCK_P=BLOCK_COLUMNS, BLOCK_C=BLOCK_CHANNELS, num_warps=NUM_WARPS,
        )  # fmt: skip
    sums = partial.sum(0)
    grad_weight = torch.empty(channels, 1, 3, 3, dtype=weight.dtype, device=weight.device)
    grad_weight.view(channels, 9).copy_(sums[:9].t())
    return grad_weight, torch.empty(channels, dtype=weight.dtype, device=weight.device).copy_(sums[9])
