"""The kernels of `pointwise` and of the feed-forward's middle: bound by memory, float32 inside, without gradients."""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent; see `depthwise_conv_triton`.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sana_wm.ops.depthwise_conv_triton import BLOCK_CHANNELS, BLOCK_COLUMNS, _block, _load_row, _row_tiles

NORM_EPS = 1e-6
GATE_BLOCK = 2048


@triton.jit
def _update_kernel(
    x_ptr, branch_ptr, gate_ptr, plus_ptr, shift_ptr, scale_ptr, out_ptr, normed_ptr,
    gb, gt, hb, ht, cb, ct, frames, tokens, channels, eps,
    BRANCH: tl.constexpr, GATE: tl.constexpr, PLUS: tl.constexpr, NORM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One token: x + gate * branch + plus, and its modulated norm, as far as they are asked for."""
    token = tl.program_id(0).to(tl.int64)
    t, b = token // tokens % frames, token // tokens // frames
    c = tl.arange(0, BC)
    known = c < channels
    at = token * channels + c
    x = tl.load(x_ptr + at, known, 0.0).to(tl.float32)
    if BRANCH:
        branch = tl.load(branch_ptr + at, known, 0.0).to(tl.float32)
        if GATE:
            branch *= tl.load(gate_ptr + b * gb + t * gt + c, known, 0.0).to(tl.float32)
        x += branch
        if PLUS:
            x += tl.load(plus_ptr + at, known, 0.0).to(tl.float32)
        x = x.to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + at, x, known)
        x = x.to(tl.float32)
    if NORM:
        mean = tl.sum(x, 0) / channels
        centred = tl.where(known, x - mean, 0.0)
        x = centred * tl.rsqrt(tl.sum(centred * centred, 0) / channels + eps)
        scale = tl.load(scale_ptr + b * cb + t * ct + c, known, 0.0).to(tl.float32)
        shift = tl.load(shift_ptr + b * hb + t * ht + c, known, 0.0).to(tl.float32)
        tl.store(normed_ptr + at, (x * (1 + scale) + shift).to(normed_ptr.dtype.element_ty), known)


@triton.jit
def _gate_kernel(mixed_ptr, camera_ptr, gate_ptr, out_ptr, count, CAMERA: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    known = at < count
    value = tl.load(mixed_ptr + at, known, 0.0).to(tl.float32)
    if CAMERA:
        value += tl.load(camera_ptr + at, known, 0.0).to(tl.float32)
    gate = tl.load(gate_ptr + at, known, 0.0).to(tl.float32)
    tl.store(out_ptr + at, (value * gate * tl.sigmoid(gate)).to(out_ptr.dtype.element_ty), known)


@triton.jit
def _silu(x, FAST: tl.constexpr):
    """FAST takes one special instruction, good to 11 bits, where bfloat16 keeps 8; an exponential and a reciprocal of
    every pixel, three times for its neighbours, are what would bound the kernel.
    """
    x = x.to(tl.float32)
    if FAST:
        half = 0.5 * x
        tanh = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [half], tl.float32, True, 1)
        return half + half * tanh
    return x * tl.sigmoid(x)


@triton.jit
def _taps_of(at, step, known):
    """Three taps beside each other."""
    return tl.load(at, known, 0.0), tl.load(at + step, known, 0.0), tl.load(at + 2 * step, known, 0.0)


@triton.jit
def _glu_conv_kernel(
    x_ptr, taps_ptr, bias_ptr, out_ptr, columns, channels, height, width, row_tiles,
    ROWS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """As `_conv_kernel`, of SiLU(x) (.., 2C), and of the two halves of its result first * SiLU(second) (.., C)."""
    channel_tiles = tl.cdiv(channels, BLOCK_C)
    c = tl.program_id(0) % channel_tiles * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    tile = tl.program_id(0) // channel_tiles
    top, offset, left, here, right = _block(tile, c, columns, channels, height, width, row_tiles, ROWS, BLOCK_P)
    pixel = (offset - c) // channels
    wide = 2 * channels
    at, out, stride = x_ptr + pixel * wide + c, out_ptr + offset, width * wide
    tap, known = taps_ptr + c, c < channels
    t0, t1, t2 = _taps_of(tap, wide, known)
    t3, t4, t5 = _taps_of(tap + 3 * wide, wide, known)
    t6, t7, t8 = _taps_of(tap + 6 * wide, wide, known)
    g0, g1, g2 = _taps_of(tap + channels, wide, known)
    g3, g4, g5 = _taps_of(tap + channels + 3 * wide, wide, known)
    g6, g7, g8 = _taps_of(tap + channels + 6 * wide, wide, known)
    start, gate_start = tl.load(bias_ptr + c, known, 0.0), tl.load(bias_ptr + channels + c, known, 0.0)
    zero = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    upper, lower, gate_upper, gate_lower = zero, zero, zero, zero
    for i in tl.static_range(ROWS + 2):
        row = top + i - 1
        a, b, d = _load_row(at + (i - 1) * stride, row, height, wide, left, here, right)
        e, f, g = _load_row(at + channels + (i - 1) * stride, row, height, wide, left, here, right)
        a, b, d = _silu(a, FAST), _silu(b, FAST), _silu(d, FAST)
        e, f, g = _silu(e, FAST), _silu(f, FAST), _silu(g, FAST)
        if i >= 2:
            value = upper + a * t6 + b * t7 + d * t8
            gate = gate_upper + e * g6 + f * g7 + g * g8
            done = (value * _silu(gate, FAST)).to(out_ptr.dtype.element_ty)
            tl.store(out + (i - 2) * width * channels, done, here & (top + i - 2 < height))
        if i >= 1:
            upper = lower + a * t3 + b * t4 + d * t5
            gate_upper = gate_lower + e * g3 + f * g4 + g * g5
        lower = start + a * t0 + b * t1 + d * t2
        gate_lower = gate_start + e * g0 + f * g1 + g * g2


def _frame_rows(x: Tensor | None, like: Tensor) -> tuple[Tensor, int, int]:
    """A table (B or 1, T or 1, 1, C), and its strides for batch and frame, 0 where one row serves all."""
    if x is None:
        return like, 0, 0
    x = x if x.stride(-1) == 1 else x.contiguous()
    return x, x.stride(0) if x.shape[0] > 1 else 0, x.stride(1) if x.shape[1] > 1 else 0


def updated(
    x: Tensor, *, branch: Tensor | None = None, gate: Tensor | None = None, plus: Tensor | None = None,
    shift: Tensor | None = None, scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x + gate * branch + plus, and its modulated norm; x itself stands for what is not asked for."""
    x = x.contiguous()
    B, T, S, C = x.shape
    out = x if branch is None else torch.empty_like(x)
    normed = x if scale is None else torch.empty_like(x)
    branch, plus = (None if part is None else part.contiguous() for part in (branch, plus))
    (gates, *gate_at), (shifts, *shift_at), (scales, *scale_at) = (_frame_rows(y, x) for y in (gate, shift, scale))
    width = triton.next_power_of_2(C)
    with torch.cuda.device_of(x):
        _update_kernel[(B * T * S,)](
            x, x if branch is None else branch, gates, x if plus is None else plus, shifts, scales, out, normed,
            *gate_at, *shift_at, *scale_at, T, S, C, NORM_EPS,
            BRANCH=branch is not None, GATE=gate is not None, PLUS=plus is not None, NORM=scale is not None, BC=width,
            num_warps=8 if width > 1024 else 4,
        )  # fmt: skip
    return out, normed


def gated(mixed: Tensor, camera: Tensor | None, gate: Tensor) -> Tensor:
    """(mixed + camera) * SiLU(gate) in the dtype of the gate."""
    mixed, gate = mixed.contiguous(), gate.contiguous()
    camera = None if camera is None else camera.contiguous()
    out = torch.empty_like(gate)
    with torch.cuda.device_of(gate):
        _gate_kernel[(triton.cdiv(gate.numel(), GATE_BLOCK),)](
            mixed, gate if camera is None else camera, gate, out, gate.numel(), CAMERA=camera is not None,
            BLOCK=GATE_BLOCK, num_warps=8,
        )  # fmt: skip
    return out


def glu_depthwise(x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
    """Depthwise 3x3 of SiLU(x) (F, H*W, 2C), then first half * SiLU(second half): (F, H*W, C)."""
    x = x.contiguous()
    images, pixels, wide = x.shape
    if pixels != height * width or tuple(weight.shape) != (wide, 1, 3, 3):
        raise ValueError(f"tokens {tuple(x.shape)} and weight {tuple(weight.shape)} do not fit {height} x {width}")
    channels = wide // 2
    out = torch.empty(images, pixels, channels, dtype=x.dtype, device=x.device)
    taps = torch.empty(9, wide, device=x.device).copy_(weight.reshape(wide, 9).t())
    row_tiles, rows = _row_tiles(height)
    tiles = triton.cdiv(images * width, BLOCK_COLUMNS) * row_tiles
    with torch.cuda.device_of(x):
        _glu_conv_kernel[(triton.cdiv(channels, BLOCK_CHANNELS) * tiles,)](
            x, taps, bias.float().contiguous(), out, images * width, channels, height, width, row_tiles,
            ROWS=rows, BLOCK_P=BLOCK_COLUMNS, BLOCK_C=BLOCK_CHANNELS, FAST=x.dtype == torch.bfloat16, num_warps=4,
        )  # fmt: skip
    return out
