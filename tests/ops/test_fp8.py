"""Eight-bit products are as exact as eight bits are, whoever makes and multiplies them."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.fp8 import FP8, LARGEST, fp8_linear, multiplies_fp8, quantize_rows
from tests.interpreted import needs_triton, run_interpreted

ROUNDING = 2.0**-4
"""Of a number between two powers of two, of which eight bits keep three."""


def _rows() -> Tensor:
    """Rows of very different sizes, one of them zeros."""
    x = torch.randn(2, 3, 70, generator=torch.Generator().manual_seed(0))
    return x * torch.tensor([1e-3, 1.0, 1e3])[None, :, None] * torch.tensor([0.0, 1.0])[:, None, None]


def test_every_row_uses_all_of_the_eight_bits() -> None:
    x = _rows()
    rows = quantize_rows(x)
    assert rows.values.dtype == FP8
    assert bool((rows.values.float().abs().amax(-1)[1] == LARGEST).all())
    torch.testing.assert_close(rows.exact()[0], x[0])
    error = (rows.exact() - x).abs()[1]
    assert bool((error <= ROUNDING * x[1].abs() + 2.0**-10 * rows.scale[1]).all())


def test_a_row_that_is_not_finite_stays_that() -> None:
    x = torch.ones(3, 16)
    x[0, 3], x[1, 5] = torch.nan, torch.inf
    rows = quantize_rows(x)
    assert bool(rows.exact()[0].isnan().any())
    assert not bool(rows.exact()[1].isfinite().all())
    torch.testing.assert_close(rows.exact()[2], x[2])


@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_as_exact_as_its_factors(bias: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(*size, generator=generator) for size in ((2, 5, 64), (48, 64)))
    plus = torch.randn(48, generator=generator) if bias else None
    found, exact = fp8_linear(x, quantize_rows(weight), plus), F.linear(x, weight, plus)
    assert found.shape == exact.shape
    assert 1e-3 < float((found - exact).norm() / exact.norm()) < 0.06


def test_a_cpu_multiplies_no_eight_bits() -> None:
    assert not multiplies_fp8(torch.ones(2, 16, dtype=torch.bfloat16))


def _quantizing_is_off(device: str, dtype: torch.dtype, allowed: float) -> list[str]:
    """The shapes where a scale is wrong, or more than the `allowed` share of numbers."""
    from sana_wm.ops.fp8_triton import quantized

    wrong = []
    generator = torch.Generator().manual_seed(2)
    large = (torch.randn(*size, generator=generator) for size in ((7, 2240), (3, 6720)))
    for x in (_rows(), torch.full((1, 5), torch.nan), *large):
        x = x.to(dtype)
        expected, (values, scale) = quantize_rows(x), quantized(x.to(device))
        same_scale = torch.allclose(scale.cpu(), expected.scale, rtol=1e-6, equal_nan=True)
        off = (values.cpu().float() * scale.cpu() - expected.exact()).abs() > 2.0**-3 * expected.exact().abs()
        if not same_scale or float(off.float().mean()) > allowed:
            wrong.append(str(tuple(x.shape)))
    return wrong


@needs_triton
def test_the_interpreted_kernel_makes_the_same_eight_bits() -> None:
    assert run_interpreted(__file__) == {"wrong": []}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_gpu_makes_the_same_eight_bits(dtype: torch.dtype) -> None:
    assert _quantizing_is_off("cuda", dtype, 0.0) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bias", [True, False])
def test_a_gpu_multiplies_eight_bits_as_float32_does(bias: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(*size, generator=generator).bfloat16() for size in ((2, 37, 224), (336, 224)))
    plus = torch.randn(336, generator=generator).bfloat16() if bias else None
    with torch.inference_mode():
        given = x.cuda()
        assert multiplies_fp8(given)
        found = fp8_linear(given, quantize_rows(weight.cuda()), None if plus is None else plus.cuda()).float().cpu()
    exact = fp8_linear(x, quantize_rows(weight), plus).float()
    assert float((found - exact).norm() / exact.norm()) < 5e-3


if __name__ == "__main__":
    # The interpreter halves numbers that are rounded up to a power of two.
    print(json.dumps({"wrong": _quantizing_is_off("cpu", torch.float32, 0.04)}))
