"""The kernel of `fp8`: a row of tokens is read once, and written in eight bits with its scale."""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent; see `depthwise_conv_triton`.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rows_kernel(x_ptr, values_ptr, scale_ptr, channels, largest, BC: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BC)
    known = c < channels
    x = tl.load(x_ptr + row * channels + c, known, 0.0).to(tl.float32)
    top = tl.max(tl.abs(x), 0) + tl.sum(tl.where(x == x, 0.0, x), 0)  # a maximum does not see what is no number
    scale = tl.where(top == 0, 1.0, top / largest)
    tl.store(values_ptr + row * channels + c, (x / scale).to(values_ptr.dtype.element_ty), known)
    tl.store(scale_ptr + row, scale)


def quantized(x: Tensor) -> tuple[Tensor, Tensor]:
    """As `quantize_rows`."""
    x = x.contiguous()
    values = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    scale = torch.empty(*x.shape[:-1], 1, dtype=torch.float32, device=x.device)
    channels = x.shape[-1]
    block = triton.next_power_of_2(channels)
    largest = torch.finfo(values.dtype).max
    _rows_kernel[(scale.numel(),)](x, values, scale, channels, largest, BC=block, num_warps=4 if block <= 4096 else 8)
    return values, scale
