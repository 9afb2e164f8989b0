"""Products in eight-bit floats: every row of tokens and of weights has a scale of its own (Hopper and Ada GPUs)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.dispatch import inference_kernels_take

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
ADA = (8, 9)
MULTIPLE = 16
"""Of which the sides of a product have to be multiples."""


class Rows(NamedTuple):
    """values * scale: (..., C) in eight bits and (..., 1) float32."""

    values: Tensor
    scale: Tensor

    def exact(self) -> Tensor:
        """(..., C) float32."""
        return self.values.float() * self.scale


def quantize_rows(x: Tensor) -> Rows:
    """x (..., C), the largest number of every row at the largest that eight bits hold."""
    if inference_kernels_take(x):
        from sana_wm.ops.fp8_triton import quantized

        return Rows(*quantized(x))
    scale = x.float().abs().amax(-1, keepdim=True) / LARGEST
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return Rows((x.float() / scale).to(FP8), scale)


def fp8_linear(x: Tensor, weight: Rows, bias: Tensor | None) -> Tensor:
    """x W^T + bias, both factors in eight bits; x (..., C), weight (N, C), the result (..., N) in the dtype of x.

    Elsewhere than on a GPU that multiplies eight bits, and in other formats than bfloat16, the numbers are the same
    eight bits and their product that of float32.
    """
    rows = quantize_rows(x)
    if not multiplies_fp8(x):
        out = F.linear(rows.exact(), weight.exact(), None if bias is None else bias.float())
        return out.to(x.dtype)
    by_row = F.ScalingType.RowWise
    out = F.scaled_mm(
        rows.values.flatten(0, -2),
        weight.values.t(),
        rows.scale.flatten(0, -2),
        by_row,
        weight.scale.t(),
        by_row,
        bias=bias,
        output_dtype=x.dtype,
        use_fast_accum=True,
    )
    return out.unflatten(0, x.shape[:-1])


def multiplies_fp8(x: Tensor) -> bool:
    """Whether the GPU of x multiplies eight bits, into the format of x."""
    known = inference_kernels_take(x) and x.dtype == torch.bfloat16
    return known and torch.cuda.get_device_capability(x.device) >= ADA
