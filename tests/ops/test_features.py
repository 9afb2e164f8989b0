"""The kernels between projection and mixing compute what their plain twins compute in float64, gradients too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.ops.dispatch import kernels_take
from sana_wm.ops.features import (
    fused_energy,
    fused_norm,
    fused_transform,
    head_energy,
    move_heads,
    move_heads_plain,
    norm_features,
    norm_features_plain,
    rotate_heads,
)
from sana_wm.ops.rotary import rotate_pairs
from tests.interpreted import needs_triton, run_interpreted

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
Results = tuple[Tensor, ...]
EPS = 1e-5


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def _slopes(call: Callable[..., Tensor], leaves: list[Tensor], weight: Tensor) -> Results:
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    out = call(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, weight.to(out.dtype))


def _far(found: Results, expected: Results, limit: float) -> list[float]:
    errors = [float((a.double() - b).norm() / b.norm().clamp_min(1e-9)) for a, b in zip(found, expected, strict=True)]
    return [error for error in errors if not error <= limit]  # nan too


def norm_case(size: tuple[int, int, int, int], taps: bool, relu: bool, dtype: torch.dtype, device: str) -> list[float]:
    """Errors over the limit of the fused norm on a slice of a wider tensor."""
    B, T, S, C = size
    whole = _draw(B, T, S, 3 * C).to(device, dtype)
    gain, weight = 1 + 0.3 * _draw(C).to(device), _draw(B, T, S, C, seed=1).to(device, dtype)
    filters = [_draw(C, 1, 4).to(device)] if taps else []

    def fused(x: Tensor, gain: Tensor, *taps: Tensor) -> Tensor:
        return fused_norm(x[..., C : 2 * C], gain, taps[0] if taps else None, EPS, 0.7, relu)

    def plain(x: Tensor, gain: Tensor, *taps: Tensor) -> Tensor:
        part = x[..., C : 2 * C]
        return norm_features_plain(part, gain, EPS, taps=taps[0] if taps else None, relu=relu, scale=0.7)

    leaves = [whole, gain, *filters]
    found = _slopes(fused, leaves, weight)
    return _far(found, _slopes(plain, [x.double() for x in leaves], weight.double()), LIMITS[dtype])


def transform_case(B: int, N: int, h: int, D: int, moved: bool, dtype: torch.dtype, device: str) -> list[float]:
    x, weight = _draw(B, N, h, D).to(device, dtype), _draw(B, N, h, D, seed=1).to(device, dtype)
    angle = _draw(N, D // 4 if moved else D // 2).to(device)
    matrix = _draw(B, N, 4, 4).to(device) if moved else None
    far = []
    for sign, transposed in ((1.0, False), (-1.0, True)):

        def fused(x: Tensor, sign: float = sign, transposed: bool = transposed) -> Tensor:
            return fused_transform(x, matrix, angle.cos(), angle.sin(), sign, transposed)

        def plain(x: Tensor, sign: float = sign, transposed: bool = transposed) -> Tensor:
            cos, sin = angle.double().cos(), sign * angle.double().sin()
            if matrix is None:
                return rotate_pairs(x, cos[:, None], sin[:, None])
            exact = matrix.double()
            return move_heads_plain(x, exact.mT if transposed else exact, cos, sin)

        far += _far(_slopes(fused, [x], weight), _slopes(plain, [x.double()], weight.double()), LIMITS[dtype])
    return far


def energy_case(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> list[float]:
    x, weight = _draw(*shape).to(device, dtype), _draw(*shape[:-1]).to(device)
    found = tuple(result.cpu() for result in _slopes(fused_energy, [x], weight))
    return _far(found, _slopes(head_energy, [x.double().cpu()], weight.double().cpu()), LIMITS[dtype])


def _main() -> None:
    """What the subprocess does: run the kernels in Triton's interpreter, print what is wrong."""
    from sana_wm.ops import features_triton

    torch.set_num_threads(1)
    wrong: dict[str, Any] = {}
    dtype, device = torch.float32, "cpu"
    for size in ((1, 1, 3, 16), (2, 3, 5, 20), (1, 6, 2, 48)):
        for taps in (False, True):
            for relu in (False, True):
                wrong[f"norm {size} {taps} {relu}"] = norm_case(size, taps, relu, dtype, device)
    features_triton.GRAD_PROGRAMS = 4
    wrong["norm shared out"] = norm_case((1, 3, 5, 20), True, True, dtype, device)
    for moved in (False, True):
        for shape in ((1, 5, 1, 16), (2, 7, 3, 24), (1, 3, 2, 112)):
            wrong[f"transform {shape} {moved}"] = transform_case(*shape, moved, dtype, device)
    wrong["energy"] = energy_case((2, 7, 3, 24), dtype, device)
    x, gain, taps = (y.requires_grad_() for y in (_draw(1, 2, 3, 16), _draw(16), _draw(16, 1, 4)))
    torch.library.opcheck(fused_norm, (x, gain, taps, EPS, 1.0, True))
    torch.library.opcheck(fused_norm, (x, gain, None, EPS, 1.0, False))
    heads, angle = _draw(1, 5, 2, 16).requires_grad_(), _draw(5, 4)
    torch.library.opcheck(fused_transform, (heads, _draw(1, 5, 4, 4), angle.cos(), angle.sin(), 1.0, False))
    torch.library.opcheck(fused_energy, (heads,))
    print(json.dumps({name: far for name, far in wrong.items() if far}))


@needs_triton
def test_interpreted_kernels_agree_with_their_twins() -> None:
    assert run_interpreted(__file__) == {}


def test_a_cpu_has_the_plain_twins() -> None:
    x, gain = _draw(1, 2, 3, 16), _draw(16)
    assert torch.equal(norm_features(x, gain, EPS, relu=True), norm_features_plain(x, gain, EPS, relu=True))
    heads, angle = x.reshape(1, 6, 2, 8), _draw(6, 4)
    expected = rotate_pairs(heads, angle.cos()[:, None], angle.sin()[:, None])
    assert torch.equal(rotate_heads(heads, angle.cos(), angle.sin()), expected)
    assert not kernels_take(x)
    back = move_heads(heads, torch.eye(4).expand(1, 6, 4, 4), angle[:, :2].cos(), angle[:, :2].sin(), inverse=True)
    forth = move_heads(back, torch.eye(4).expand(1, 6, 4, 4), angle[:, :2].cos(), angle[:, :2].sin())
    torch.testing.assert_close(forth, heads)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_agrees_with_the_plain_twins(dtype: torch.dtype) -> None:
    wrong: dict[str, Any] = {}
    for size in ((1, 1, 15, 320), (2, 7, 56, 2240), (1, 41, 240, 2240)):
        for taps in (False, True):
            wrong[f"norm {size} {taps}"] = norm_case(size, taps, True, dtype, "cuda")
    for moved in (False, True):
        for shape in ((1, 15, 5, 64), (2, 241, 20, 112), (1, 880, 3, 24)):
            wrong[f"transform {shape} {moved}"] = transform_case(*shape, moved, dtype, "cuda")
    wrong["energy"] = energy_case((2, 241, 20, 112), dtype, "cuda")
    assert {name: far for name, far in wrong.items() if far} == {}


if __name__ == "__main__":
    _main()
