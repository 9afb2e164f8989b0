"""The kernels of the depthwise convolution compute what the plain twin computes, gradients too."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.depthwise_conv import depthwise_conv, depthwise_conv_plain, fused_depthwise_conv
from tests.interpreted import needs_triton, run_interpreted

Convolution = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]

NAMES = ("result", "grad x", "grad weight", "grad bias")
SIZES = ((1, 1), (3, 5), (12, 20), (7, 1))
LIMITS = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (5e-3, 1e-2)}
"""Relative errors of the result and of the gradients against float64."""


def _inputs(images: int, pixels: int, channels: int, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
    """x, weight, bias and the gradient of the result; the weights in float32, as the model keeps them."""
    generator = torch.Generator().manual_seed(images + pixels + channels)
    shapes = ((images, pixels, channels), (channels, 1, 3, 3), (channels,), (images, pixels, channels))
    x, weight, bias, grad = (torch.randn(shape, generator=generator).to(device) for shape in shapes)
    return [x.to(dtype), weight, bias, grad.to(dtype)]


def _results(conv: Convolution, tensors: list[Tensor], height: int, width: int) -> tuple[Tensor, ...]:
    *leaves, grad = tensors
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    out = conv(*leaves, height, width)
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def _errors(conv: Convolution, tensors: list[Tensor], height: int, width: int) -> list[float]:
    """Relative errors against the plain twin in float64 on the same numbers."""
    actual = _results(conv, tensors, height, width)
    expected = _results(depthwise_conv_plain, [t.double() for t in tensors], height, width)
    return [((a - e).norm() / e.norm()).item() for a, e in zip(actual, expected, strict=True)]


def _same_bits(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _too_far(errors: list[float], dtype: torch.dtype) -> dict[str, float]:
    limits = (LIMITS[dtype][0], *(LIMITS[dtype][1],) * 3)
    return {
        name: error for name, error, limit in zip(NAMES, errors, limits, strict=True) if not error <= limit
    }  # nan too


def _main() -> None:
    """What the subprocess does: run the kernels in Triton's interpreter, print what is wrong."""
    from sana_wm.ops import depthwise_conv_triton

    torch.set_num_threads(1)
    wrong: dict[str, object] = {}

    def compare(dtype: torch.dtype, images: int, size: tuple[int, int], channels: int) -> None:
        tensors = _inputs(images, size[0] * size[1], channels, dtype)
        if far := _too_far(_errors(fused_depthwise_conv, tensors, *size), dtype):
            wrong[f"{dtype} {images} x {size} x {channels}"] = far

    # The interpreter's cost is that of the number of programs, so one does it all here.
    depthwise_conv_triton.BLOCK_COLUMNS, depthwise_conv_triton.BLOCK_CHANNELS = 64, 256
    for size in SIZES:
        for images, channels in ((1, 5), (1, 130), (3, 5), (3, 64), (3, 130)):
            compare(torch.float32, images, size, channels)
        compare(torch.bfloat16, 3, size, 130)
    depthwise_conv_triton.BLOCK_COLUMNS, depthwise_conv_triton.BLOCK_CHANNELS = 8, 64
    compare(torch.float32, 3, (4, 5), 70)
    compare(torch.float32, 2, (29, 3), 5)  # taller than a tile
    depthwise_conv_triton.GRAD_PROGRAMS = 2
    compare(torch.float32, 5, (14, 5), 5)  # more tiles than programs

    tensors = _inputs(3, 6, 70, torch.bfloat16)
    x, weight, bias, grad = tensors
    first = _results(fused_depthwise_conv, tensors, 2, 3)
    if not _same_bits(first, _results(fused_depthwise_conv, tensors, 2, 3)):
        wrong["second run"] = "other bits"
    scattered = [x.mT.contiguous().mT, weight.mT.contiguous().mT, bias, grad.mT.contiguous().mT]
    if scattered[0].is_contiguous() or not _same_bits(first, _results(fused_depthwise_conv, scattered, 2, 3)):
        wrong["scattered"] = "other bits"
    if [t.dtype for t in first] != [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]:
        wrong["dtypes"] = [str(t.dtype) for t in first]
    leaves = [t.requires_grad_() for t in _inputs(2, 6, 5, torch.float32)[:3]]
    torch.library.opcheck(fused_depthwise_conv, (*leaves, 2, 3))
    print(json.dumps(wrong))


@needs_triton
def test_interpreted_kernels_agree_with_the_plain_convolution() -> None:
    assert run_interpreted(__file__) == {}


def test_the_plain_twin_is_a_convolution_of_images() -> None:
    x, weight, bias, _ = _inputs(2, 15, 4, torch.float64)
    weight, bias = weight.double(), bias.double()
    images = x.mT.reshape(2, 4, 3, 5)
    expected = F.conv2d(images, weight, bias, padding=1, groups=4).flatten(2).mT
    torch.testing.assert_close(depthwise_conv(x, weight, bias, 3, 5), expected)


def test_autocast_chooses_the_dtype_as_for_a_library_convolution() -> None:
    x, weight, bias, _ = _inputs(2, 15, 4, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        actual, expected = depthwise_conv(x, weight, bias, 3, 5), depthwise_conv_plain(x, weight, bias, 3, 5)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected)
    assert depthwise_conv(x.bfloat16(), weight, bias, 3, 5).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_agrees_with_the_plain_convolution(compiled: bool) -> None:
    height, width = 12, 20
    tensors = _inputs(66, height * width, 1600, torch.bfloat16, "cuda")

    def conv(x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
            return depthwise_conv(x, weight, bias, height, width)

    run: Convolution = torch.compile(conv, dynamic=False, fullgraph=True) if compiled else conv
    assert _too_far(_errors(run, tensors, height, width), torch.bfloat16) == {}
    first = _results(run, tensors, height, width)
    # Memory full of NaN, which the next results are likely to be given: a value left unwritten would show.
    poison = [torch.full_like(t, torch.nan) for t in first for _ in range(3)]
    del poison
    assert _same_bits(first, _results(run, tensors, height, width))


@pytest.mark.gpu
def test_a_nan_reaches_its_own_image_and_channel_only() -> None:
    """A read across the border of an image, even one multiplied by zero, would carry it further."""
    x, weight, bias, grad = _inputs(3, 240, 1600, torch.bfloat16, "cuda")
    x[1, :, 64], grad[1, :, 64] = torch.nan, torch.nan
    out, grad_x, grad_weight, grad_bias = _results(fused_depthwise_conv, [x, weight, bias, grad], 12, 20)
    for result in (out, grad_x):
        assert result[1, :, 64].isnan().all()
        assert result.isnan().sum() == 240
    for result in (grad_weight, grad_bias):
        assert result[64].isnan().all()
        assert result.isnan().sum() == result[64].numel()


if __name__ == "__main__":
    _main()
