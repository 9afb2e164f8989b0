"""One pass over memory gives what the plain lines give: residuals, norms, gates, the feed-forward's middle."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.depthwise_conv import depthwise_conv_plain, glu_depthwise_conv
from sana_wm.ops.dispatch import inference_kernels_take
from sana_wm.ops.pointwise import gated_residual, modulate, output_gate, residual_modulate
from sana_wm.ops.temporal_conv import temporal_mix, temporal_residual
from tests.interpreted import needs_triton, run_interpreted

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def _far(found: Tensor, expected: Tensor, dtype: torch.dtype) -> float | None:
    error = float((found.double().cpu() - expected).norm() / expected.norm())
    return None if error <= LIMITS[dtype] else error  # nan too


def _update_errors(size: tuple[int, int, int, int], dtype: torch.dtype, device: str) -> list[float | None]:
    from sana_wm.ops.pointwise_triton import gated, updated

    B, T, _, C = size
    x, branch, plus = (_draw(*size, seed=i).to(dtype) for i in range(3))
    tables = _draw(B, T, 3, C)[:, :, None].to(dtype)  # slices of one table, as a block has them
    shift, scale, gate = tables.unbind(-2)
    on = [y.to(device) for y in (x, branch, plus, shift, scale, gate)]
    X, BRANCH, PLUS, SHIFT, SCALE, GATE = on
    exact = [y.double() for y in (x, branch, plus, shift, scale, gate)]
    summed = exact[0] + exact[5] * exact[1] + exact[2]
    far = [_far(updated(X, branch=BRANCH, gate=GATE, plus=PLUS)[0], summed, dtype)]
    once = exact[0] + exact[1]
    made, normed = updated(X, branch=BRANCH, shift=SHIFT, scale=SCALE)
    far += [_far(made, once, dtype), _far(normed, modulate(once, exact[3], exact[4]), dtype)]
    one_row = SCALE[:1, :1]
    far.append(_far(updated(X, shift=one_row, scale=one_row)[1], modulate(exact[0], *[exact[4][:1, :1]] * 2), dtype))
    far.append(_far(gated(X, BRANCH, PLUS), (exact[0] + exact[1]) * F.silu(exact[2]), dtype))
    far.append(_far(gated(X, None, PLUS), exact[0] * F.silu(exact[2]), dtype))
    return far


def _glu_error(images: int, height: int, width: int, C: int, dtype: torch.dtype, device: str) -> float | None:
    from sana_wm.ops.pointwise_triton import glu_depthwise

    x = _draw(images, height * width, 2 * C).to(dtype)
    weight, bias = _draw(2 * C, 1, 3, 3), _draw(2 * C)
    mixed = depthwise_conv_plain(F.silu(x.double()), weight.double(), bias.double(), height, width)
    value, gate = mixed.chunk(2, -1)
    made = glu_depthwise(x.to(device), weight.to(device), bias.to(device), height, width)
    return _far(made, value * F.silu(gate), dtype)


def _main() -> None:
    """What the subprocess does: run the kernels in Triton's interpreter, print what is wrong."""
    from sana_wm.ops import pointwise_triton

    torch.set_num_threads(1)
    wrong: dict[str, Any] = {}
    for size in ((1, 1, 3, 16), (2, 3, 4, 20)):
        wrong[f"update {size}"] = [e for e in _update_errors(size, torch.float32, "cpu") if e is not None]
    pointwise_triton.BLOCK_COLUMNS, pointwise_triton.BLOCK_CHANNELS = 16, 64
    for shape in ((1, 1, 1, 5), (2, 3, 5, 70), (1, 14, 3, 5)):
        wrong[f"glu {shape}"] = _glu_error(*shape, torch.float32, "cpu")
    print(json.dumps({name: far for name, far in wrong.items() if far}))


@needs_triton
def test_interpreted_kernels_agree_with_the_plain_lines() -> None:
    assert run_interpreted(__file__) == {}


def test_a_cpu_has_the_plain_lines() -> None:
    x, y, gate = (_draw(1, 2, 3, 8, seed=i) for i in range(3))
    with torch.no_grad():
        assert not inference_kernels_take(x)
        assert torch.equal(gated_residual(x, gate, y, y), x + gate * y + y)
        made, normed = residual_modulate(x, y, gate, y)
        assert torch.equal(made, x + y)
        assert torch.equal(normed, modulate(x + y, gate, y))
        assert torch.equal(output_gate(x, y, gate), (x + y) * F.silu(gate))
        assert torch.equal(output_gate(x, None, gate), x * F.silu(gate))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_agrees_with_the_plain_lines(dtype: torch.dtype) -> None:
    wrong: dict[str, Any] = {}
    for size in ((1, 1, 15, 320), (2, 7, 56, 2240)):
        wrong[f"update {size}"] = [e for e in _update_errors(size, dtype, "cuda") if e is not None]
    for shape in ((3, 12, 20, 800), (2, 22, 40, 640), (1, 3, 5, 70)):
        wrong[f"glu {shape}"] = _glu_error(*shape, dtype, "cuda")
    assert {name: far for name, far in wrong.items() if far} == {}


@pytest.mark.gpu
def test_a_gpu_adds_up_the_three_frames_in_place() -> None:
    for frames in (1, 2, 9):
        x, weight = _draw(2, frames, 15, 64), 0.1 * _draw(64, 64, 3, 1)
        expected = x.double() + temporal_mix(x.double(), weight.double())
        with torch.no_grad():
            made = temporal_residual(x.cuda(), weight.cuda())
        torch.testing.assert_close(made.cpu().double(), expected, atol=2e-3, rtol=2e-3)
        assert inference_kernels_take(x.cuda()) is False  # gradients are on again


def test_the_middle_of_the_feed_forward_is_its_parts() -> None:
    x, weight, bias = _draw(2, 15, 8), _draw(8, 1, 3, 3), _draw(8)
    value, gate = depthwise_conv_plain(F.silu(x), weight, bias, 3, 5).chunk(2, -1)
    assert torch.equal(glu_depthwise_conv(x, weight, bias, 3, 5), value * F.silu(gate))


if __name__ == "__main__":
    _main()
