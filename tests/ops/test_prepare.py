"""The one kernel between projection and mixing gives what the steps give, one after another, in float64."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.ops.prepare import MIN_ENERGY, Norm, Prepared, Turn, prepare_heads, prepare_heads_plain
from tests.interpreted import needs_triton, run_interpreted

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 6e-3}


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def _case(
    size: tuple[int, int, int], heads: int, D: int, *, moved: bool, normed: bool, taps: bool
) -> tuple[Tensor, Norm | None, Turn]:
    """A slice of a wider tensor, as a projection leaves it, a norm and a turn."""
    B, T, S = size
    C = heads * D
    x = _draw(B, T, S, 3 * C)[..., C : 2 * C]
    norm = Norm(1 + 0.3 * _draw(C), 1e-5, _draw(C, 1, 4) if taps else None, relu=taps, scale=0.3) if normed else None
    angle = _draw(T * S, D // 4 if moved else D // 2)
    matrix = _draw(B, T * S, 4, 4) if moved else None
    return x, norm, Turn(angle.cos(), angle.sin(), matrix, inverse=not normed, transposed=moved and taps)


def _as(value: Any, device: str, dtype: torch.dtype) -> Any:
    """The same settings with their tensors elsewhere, in another format."""
    fields = {name: x.to(device, dtype) if isinstance(x, Tensor) else x for name, x in vars(value).items()}
    return type(value)(**fields)


def _far(
    case: tuple[Tensor, Norm | None, Turn], heads: int, dtype: torch.dtype, device: str, **asked: bool
) -> list[str]:
    from sana_wm.ops.prepare_triton import prepared

    x, norm, turn = case
    x = x.to(dtype)
    exact = prepare_heads_plain(
        x.double(), heads, None if norm is None else _as(norm, "cpu", torch.float64), _as(turn, "cpu", torch.float64),
        **asked,
    )  # fmt: skip
    on = None if norm is None else _as(norm, device, torch.float32)
    at = _as(turn, device, torch.float32)
    gain, taps = (None, None) if on is None else (on.gain, on.taps)
    eps, scale, relu = (0.0, 1.0, False) if on is None else (on.eps, on.scale, on.relu)
    made, turned, growth = prepared(
        x.to(device), heads, gain, taps, eps, scale, relu, at.matrix, at.cos, at.sin, -1.0 if at.inverse else 1.0,
        at.transposed, plain=asked.get("keep", False), least=MIN_ENERGY if asked.get("growth") else None,
    )  # fmt: skip
    wrong = []
    for name, found, expected in zip(Prepared._fields, (turned, made, growth), exact, strict=True):
        if (found is None) != (expected is None):
            wrong.append(f"{name}: one is missing")
        elif found is not None and expected is not None:
            error = float((found.double().cpu() - expected).norm() / expected.norm())
            if not error <= LIMITS[dtype]:  # nan too
                wrong.append(f"{name}: {error}")
    return wrong


def _everything(
    dtype: torch.dtype, device: str, sizes: tuple[tuple[tuple[int, int, int], int, int], ...]
) -> dict[str, Any]:
    wrong = {}
    for size, heads, D in sizes:
        for moved in (False, True):
            for normed, taps in ((True, True), (True, False), (False, False)):
                case = _case(size, heads, D, moved=moved, normed=normed, taps=taps)
                asked = {"keep": normed and not moved, "growth": moved and taps}
                wrong[f"{size} {heads}x{D} {moved} {normed} {taps}"] = _far(case, heads, dtype, device, **asked)
    return {name: far for name, far in wrong.items() if far}


def _main() -> None:
    """What the subprocess does: run the kernel in Triton's interpreter, print what is wrong."""
    torch.set_num_threads(1)
    sizes = (((1, 1, 3), 1, 16), ((2, 3, 2), 3, 24), ((1, 5, 2), 2, 112))
    print(json.dumps(_everything(torch.float32, "cpu", sizes)))


@needs_triton
def test_the_interpreted_kernel_agrees_with_the_steps() -> None:
    assert run_interpreted(__file__) == {}


def test_a_cpu_goes_step_by_step() -> None:
    x, norm, turn = _case((1, 2, 3), 2, 16, moved=True, normed=True, taps=True)
    with torch.no_grad():
        ours, plain = (f(x, 2, norm, turn, keep=True, growth=True) for f in (prepare_heads, prepare_heads_plain))
    for one, other in zip(ours, plain, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_agrees_with_the_steps(dtype: torch.dtype) -> None:
    sizes = (((1, 1, 15), 5, 64), ((2, 7, 56), 20, 112), ((1, 2, 240), 8, 128))
    assert _everything(dtype, "cuda", sizes) == {}


if __name__ == "__main__":
    _main()
