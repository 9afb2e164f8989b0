"""The kernel of `causal_pad`: bound by memory, float32 inside, without gradients."""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent; see `depthwise_conv_triton`.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
"""Numbers of one program: some pixels with all their channels."""


@triton.jit
def _pad_kernel(
    x_ptr, branch_ptr, bias_ptr, before_ptr, sum_ptr, out_ptr, sb, sc, sn, sh, sw, frames, height, width, pixels, eps,
    C: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, BRANCH: tl.constexpr, BIAS: tl.constexpr,
    BEGINS: tl.constexpr, NORM: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Some pixels of out (B,n+2,h+2,w+2,C), each from the pixel of x (B,n,h,w,C) or of the past that it mirrors."""
    pixel = tl.program_id(0) * BP + tl.arange(0, BP)
    known = pixel < pixels
    column, rest = pixel % (width + 2), pixel // (width + 2)
    row, rest = rest % (height + 2), rest // (height + 2)
    frame, b = rest % (frames + 2), rest // (frames + 2)
    column, row, frame = column - 1, row - 1, frame - 2
    new = frame >= 0
    # Without the edge itself: -1 is 1, and the height is the last row but one.
    h, w = tl.abs(row), tl.abs(column)
    h, w = tl.where(h == height, height - 2, h), tl.where(w == width, width - 2, w)
    inner = (h == row) & (w == column)

    c = tl.arange(0, BC)[None, :]
    channel = c < C
    computed = known if BEGINS else known & new
    mask = computed[:, None] & channel
    at = (((b * frames + tl.maximum(frame, 0)) * height + h) * width + w).to(tl.int64)[:, None] * C + c
    value = tl.load(x_ptr + at, mask, 0.0).to(tl.float32)
    if BRANCH:
        value += tl.load(branch_ptr + at, mask, 0.0).to(tl.float32)
    if BIAS:
        value += tl.load(bias_ptr + c, channel, 0.0).to(tl.float32)
    if SUM:
        tl.store(sum_ptr + at, value.to(sum_ptr.dtype.element_ty), mask & (new & inner)[:, None])
    if NORM:
        # What lies beyond the channels is 0 and stays so.
        value *= (1 / tl.sqrt(tl.sum(value * value, 1) / C + eps))[:, None]
        value *= tl.sigmoid(value)
    if not BEGINS:
        past = b.to(tl.int64) * sb + (frame + 2) * sn + h * sh + w * sw
        kept = tl.load(before_ptr + past[:, None] + c * sc, (known & ~new)[:, None] & channel, 0.0)
        value = tl.where(new[:, None], value, kept.to(tl.float32))
    out = out_ptr + pixel.to(tl.int64)[:, None] * C + c
    tl.store(out, value.to(out_ptr.dtype.element_ty), known[:, None] & channel)


def padded(
    x: Tensor, before: Tensor | None, branch: Tensor | None, bias: Tensor | None, norm_eps: float | None,
    want_sum: bool,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The first and the last result of `causal_pad`, channels last in memory: no copy of inputs that are so as well."""
    B, C, n, h, w = x.shape
    if min(h, w) < 2:
        raise ValueError(f"{h} x {w} pixels cannot be padded by reflection")
    if before is not None and before.shape != (B, C, 2, h, w):
        raise ValueError(f"the past {tuple(before.shape)} does not fit {tuple(x.shape)}")
    if branch is not None and branch.shape != x.shape:
        raise ValueError(f"the branch {tuple(branch.shape)} does not fit {tuple(x.shape)}")
    rows, branch_rows = _channels_last(x), None if branch is None else _channels_last(branch)
    out = rows.new_empty(B, n + 2, h + 2, w + 2, C)
    adds = branch is not None or bias is not None
    total = torch.empty_like(rows) if want_sum and adds else rows
    width = triton.next_power_of_2(C)
    block, pixels = max(1, BLOCK // width), out.numel() // C
    past = (0,) * 5 if before is None else before.stride()
    with torch.cuda.device_of(x):
        _pad_kernel[(triton.cdiv(pixels, block),)](
            rows, rows if branch_rows is None else branch_rows, rows if bias is None else bias.contiguous(),
            rows if before is None else before, total, out, *past, n, h, w, pixels,
            0.0 if norm_eps is None else norm_eps,
            C=C, BC=width, BP=block, BRANCH=branch is not None, BIAS=bias is not None, BEGINS=before is None,
            NORM=norm_eps is not None, SUM=want_sum and adds, num_warps=4,
        )  # fmt: skip
    return out.permute(0, 4, 1, 2, 3), total.permute(0, 4, 1, 2, 3) if want_sum else None


def _channels_last(x: Tensor) -> Tensor:
    """(B,C,n,h,w) as (B,n,h,w,C), contiguous."""
    return x.permute(0, 2, 3, 4, 1).contiguous()
