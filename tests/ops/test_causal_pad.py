"""What a causal convolution reads: sum, norm, SiLU, past and mirrored rim, in one pass or in five."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops import dispatch
from sana_wm.ops.causal_pad import causal_pad, causal_pad_plain
from tests.interpreted import needs_triton, run_interpreted

EPS = 1e-8
SIZES = ((1, 5, 1, 2, 3), (2, 6, 3, 5, 7), (3, 48, 2, 4, 2))
LIMITS = {torch.float32: 2e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}
"""Relative errors against float64: those of one rounding."""
Results = tuple[Tensor, Tensor, Tensor | None]


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def _inputs(size: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, the past, a branch and a bias."""
    B, C, _, h, w = size
    x, before, branch, bias = _draw(*size), _draw(B, C, 2, h, w), _draw(*size, seed=1), _draw(C)
    return x.to(dtype), before.to(dtype), branch.to(dtype), bias.to(dtype)


def _cases(size: tuple[int, ...], dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor | None, dict[str, Any]]]:
    """Whatever the decoder asks for, and every part by itself."""
    x, before, branch, bias = _inputs(size, dtype)
    return {
        "pad": (x, before, {}),
        "begin": (x, None, {"want_sum": True}),
        "norm": (x, before, {"norm_eps": EPS}),
        "bias": (x, before, {"bias": bias, "norm_eps": EPS}),
        "begin with all": (x, None, {"branch": branch, "bias": bias, "norm_eps": EPS, "want_sum": True}),
        "all": (x, before, {"branch": branch, "bias": bias, "norm_eps": EPS, "want_sum": True}),
        "sum": (x, before, {"branch": branch, "want_sum": True}),
        "channels last": (x.to(memory_format=torch.channels_last_3d), before.mT.contiguous().mT, {"norm_eps": EPS}),
    }


def _on(value: Any, to: Any) -> Any:
    """Every tensor in it on another device, or of another type."""
    if isinstance(value, dict):
        return {name: _on(part, to) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_on(part, to) for part in value)
    return value.to(to) if isinstance(value, Tensor) else value


def _too_far(found: Results, expected: Results, dtype: torch.dtype) -> list[float]:
    far = []
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.shape == theirs.shape
            assert ours.dtype == dtype
            error = float((ours.double() - theirs).norm() / theirs.norm())
            far += [] if error <= LIMITS[dtype] else [error]  # nan too
    return far


def _wrong(size: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, Any]:
    wrong: dict[str, Any] = {}
    for name, given in _cases(size, dtype).items():
        x, before, asked = _on(given, device)
        exact = causal_pad_plain(*_on((x, before), torch.double), **_on(asked, torch.double))
        found = causal_pad(x, before, **asked)
        if not found[0].is_contiguous(memory_format=torch.channels_last_3d):
            wrong[f"{size} {dtype} {name}, order"] = found[0].stride()
        if not found[1].is_contiguous() or found[1].untyped_storage().nbytes() != found[1].nbytes:
            wrong[f"{size} {dtype} {name}, tail"] = found[1].stride()
        if far := _too_far(found, exact, dtype):
            wrong[f"{size} {dtype} {name}"] = far
    return wrong


def _nan_spreads(device: str) -> list[bool]:
    """Whether a NaN makes those pixels of the result NaN that it does in the plain twin."""
    x, before, branch, bias = (part.to(device) for part in _inputs((2, 6, 3, 5, 7), torch.float32))
    x[1, 2, 1, 0, 3], before[0, 1, 1, 4, 4] = torch.nan, torch.nan
    asked = {"branch": branch, "bias": bias, "norm_eps": EPS, "want_sum": True}
    pairs = zip(causal_pad(x, before, **asked), causal_pad_plain(x, before, **asked), strict=True)
    return [torch.equal(a.isnan(), b.isnan()) and bool(b.isnan().any()) for a, b in pairs]  # type: ignore[union-attr]


def _main() -> None:
    """What the subprocess does: run the kernel in Triton's interpreter, print what is wrong."""
    from sana_wm.ops import causal_pad as op
    from sana_wm.ops import causal_pad_triton

    torch.set_num_threads(1)
    op.inference_kernels_take = lambda x: True  # type: ignore[attr-defined]  # on a CPU too
    wrong: dict[str, Any] = {}
    for size in SIZES:
        wrong |= _wrong(size, torch.float32, "cpu")
    for dtype in LIMITS:
        wrong |= _wrong(SIZES[0], dtype, "cpu")
    causal_pad_triton.BLOCK = 64
    wrong |= _wrong(SIZES[0], torch.float32, "cpu")
    if not all(_nan_spreads("cpu")):
        wrong["nan"] = _nan_spreads("cpu")
    for size, past in (((1, 4, 2, 1, 5), (1, 4, 2, 1, 5)), ((1, 4, 2, 3, 5), (1, 4, 2, 3, 6))):
        try:
            causal_pad(_draw(*size), _draw(*past))
            wrong[f"{size} {past}"] = "taken"
        except ValueError:
            pass
    print(json.dumps(wrong))


@needs_triton
def test_the_interpreted_kernel_agrees_with_the_plain_lines() -> None:
    assert run_interpreted(__file__) == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", SIZES)
def test_the_plain_twin_is_norm_silu_past_and_reflection(size: tuple[int, ...], dtype: torch.dtype) -> None:
    from diffusers.models.autoencoders.autoencoder_kl_ltx2 import PerChannelRMSNorm

    (x, before, branch, _), norm = _inputs(size, dtype), PerChannelRMSNorm()
    for past in (before, None):
        made, tail, total = causal_pad(x, past, branch=branch, norm_eps=norm.eps, want_sum=True)
        normed = F.silu(norm(x + branch))
        start = normed[:, :, :1].expand(-1, -1, 2, -1, -1) if past is None else past
        extended = torch.cat([start, normed], 2)
        assert torch.equal(made, F.pad(extended, (1, 1, 1, 1, 0, 0), mode="reflect"))
        assert torch.equal(tail, extended[:, :, -2:])
        assert tail.is_contiguous()
        assert tail.untyped_storage().nbytes() == tail.nbytes
        assert total is not None
        assert torch.equal(total, x + branch)
        assert made.dtype == tail.dtype == total.dtype == dtype


def test_a_nan_is_seen_where_it_was_before() -> None:
    assert all(_nan_spreads("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", LIMITS)
def test_a_gpu_agrees_with_the_plain_lines(dtype: torch.dtype) -> None:
    with torch.inference_mode():
        wrong: dict[str, Any] = {}
        for size in (*SIZES, (1, 1024, 3, 22, 40), (2, 96, 3, 17, 31), (1, 128, 4, 176, 320)):
            wrong |= _wrong(size, dtype, "cuda")
        assert wrong == {}
        assert all(_nan_spreads("cuda"))


@pytest.mark.gpu
def test_a_gpu_has_the_plain_lines_when_asked() -> None:
    x, before, branch, bias = (part.cuda() for part in _inputs((2, 6, 3, 5, 7), torch.bfloat16))
    asked = {"branch": branch, "bias": bias, "norm_eps": EPS, "want_sum": True}
    with torch.no_grad(), dispatch.plain_only():
        found, expected = causal_pad(x, before, **asked), causal_pad_plain(x, before, **asked)
    assert all(map(torch.equal, found, expected))  # type: ignore[arg-type]
    assert found[0].is_contiguous()


if __name__ == "__main__":
    _main()
