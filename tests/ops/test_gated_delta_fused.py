"""The kernels of the gated delta rule compute what the plain twin computes in float64, gradients too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.ops.gated_delta import FinalStates, gated_delta_plain
from sana_wm.ops.gated_delta_fused import backend, fused_gated_delta, gated_delta
from tests.interpreted import needs_triton, run_interpreted
from tests.parity_kinds.base import load_fixture
from tests.parity_kinds.training import NAMES, kept_frames

LIMITS = {torch.float32: (1e-4, 1e-4), torch.float16: (5e-3, 1e-2), torch.bfloat16: (5e-3, 1e-2)}
"""Relative errors of results and of gradients."""
MAIN = ("q_rotated", "k_rotated", "v", "q", "k", "beta", "decay")
CAMERA = ("q_rotated", "k_rotated", "v", "beta", "decay")
Given = dict[str, Tensor]


def _given(
    B: int, h: int, T: int, S: int, D: int, dtype: torch.dtype, *, camera: bool, cut: bool, device: str = "cpu"
) -> Given:
    """Queries, keys and values as the model has them, lying as (B,T,S,h,D), and the gradients of what comes out."""
    generator = torch.Generator().manual_seed(B + 10 * T + S + D)

    def tokens(positive: bool) -> Tensor:
        x = torch.randn(B, T, S, h, D, generator=generator)
        return (x.relu() if positive else x).to(device, dtype).permute(0, 3, 1, 2, 4)

    def numbers(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(device)

    scale = (D * S) ** -0.5
    q, k = tokens(True), tokens(True) * scale
    x = {
        "q_rotated": q.flip(-1) if camera else torch.cat([-q[..., ::2], q[..., 1::2]], -1),
        "k_rotated": tokens(False) * scale if camera else torch.cat([-k[..., ::2], k[..., 1::2]], -1),
        "v": tokens(False),
        "beta": torch.sigmoid(numbers(B, h, T, S) + 2),
        "decay": torch.sigmoid(3 * numbers(B, h, T)),  # from near 0 to near 1
        "grad": tokens(False),
        "grad_state": numbers(B, h, D, D),
    }
    if not camera:
        x |= {"q": q, "k": k, "grad_z": numbers(B, h, D, 1)}
    if cut:
        x["keep"] = (torch.arange(T, device=device) % 3 != 1).float().expand(B, T)
        x["state"], x["z"] = numbers(B, h, D, D), numbers(B, h, D, 1).abs()
    return x


def _call(rule: Callable[..., tuple[Tensor, FinalStates]], x: Given, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Results and gradients by name."""
    starts = tuple(name for name in ("state", "z") if name in x and (name != "z" or "q" in x))
    leaves = {name: x[name].detach().requires_grad_() for name in (*names, *starts)}
    start = FinalStates(leaves["state"], leaves.get("z")) if starts else None
    out, end = rule(**{name: leaves[name] for name in names}, keep=x.get("keep"), start=start)
    results, grads = [out, end.state], [x["grad"].to(out.dtype), x["grad_state"].to(end.state.dtype)]
    if end.z is not None:
        results.append(end.z)
        grads.append(x["grad_z"].to(end.z.dtype))
    found = dict(zip(("out", "end state", "end z"), (r.detach() for r in results), strict=False))
    slopes = torch.autograd.grad(results, list(leaves.values()), grads)
    return found | {f"grad {name}": slope for name, slope in zip(leaves, slopes, strict=True)}


def _exact(x: Given, names: tuple[str, ...]) -> dict[str, Tensor]:
    return _call(gated_delta_plain, {name: value.double() for name, value in x.items()}, names)


def _fused(**x: Any) -> tuple[Tensor, FinalStates]:
    """The kernels whatever the device; interpreted, they run on a CPU."""
    v, start, k = x["v"], x.get("start"), x.get("k")
    keep = x["keep"] if x.get("keep") is not None else torch.ones(v.shape[0], v.shape[2], device=v.device)
    state, z = (None, None) if start is None else (start.state, start.z)
    given = (x["q_rotated"], x["k_rotated"], v, x.get("q"), k, x["beta"], x["decay"], keep, state, z)
    out, state, z = fused_gated_delta(*given)
    return out, FinalStates(state, None if k is None else z)


def _too_far(found: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype) -> dict[str, float]:
    far = {}
    for name, value in expected.items():
        error = float((found[name].double() - value).norm() / value.norm().clamp_min(1e-12))
        limit = LIMITS[dtype][name.startswith("grad")]
        if not error <= limit:  # nan too
            far[name] = error
    return far


def _golden() -> dict[str, dict[str, float]]:
    """The golden numbers of spec 50, section 6, by mode: what of them the kernels miss."""
    fixture = load_fixture(Path(__file__).parents[1] / "fixtures" / "training_gdn_scan.safetensors")
    t, c = {name: x.float() for name, x in fixture.tensors.items()}, fixture.config
    wrong = {}
    for mode in ("causal", "bidirectional", "chunk_causal"):
        leaves = {ours: t[f"in.{name}"].clone().requires_grad_() for name, ours in NAMES.items()}
        out, _ = _fused(**leaves, keep=kept_frames(mode, c["chunk_index"], c["B"], c["T"]))
        slopes = torch.autograd.grad(out, list(leaves.values()), t["in.dout"])
        found = {"out": out.detach()} | {f"d{name}": slope for name, slope in zip(NAMES, slopes, strict=True)}
        expected = {name: fixture.tensors[f"out.{mode}.{name}"] for name in found}
        wrong[mode] = _too_far(found, expected, torch.float32)
    return wrong


def _main() -> None:
    """What the subprocess does: run the kernels in Triton's interpreter, print what is wrong."""
    torch.set_num_threads(1)
    wrong: dict[str, Any] = {}
    sizes = ((1, 1, 1, 15, 16), (2, 2, 3, 15, 24), (1, 2, 7, 5, 64), (2, 1, 2, 70, 112), (1, 1, 2, 9, 128))
    for B, h, T, S, D in sizes:
        for camera in (False, True):
            # The interpreter cannot multiply bfloat16.
            for dtype in (torch.float32, torch.float16) if D in (24, 112) else (torch.float32,):
                x = _given(B, h, T, S, D, dtype, camera=camera, cut=T > 2)
                names = CAMERA if camera else MAIN
                if far := _too_far(_call(_fused, x, names), _exact(x, names), dtype):
                    wrong[f"{(B, h, T, S, D)} camera {camera} {dtype}"] = far
    wrong |= {f"golden {name}": far for name, far in _golden().items() if far}
    x = _given(1, 1, 2, 5, 16, torch.float32, camera=False, cut=True)
    leaves = [x[name].detach().requires_grad_() for name in ("q_rotated", "k_rotated", "v", "q", "k", "beta", "decay")]
    torch.library.opcheck(fused_gated_delta, (*leaves, x["keep"].contiguous(), x["state"], x["z"]))
    torch.library.opcheck(fused_gated_delta, (*leaves[:3], None, None, *leaves[5:], x["keep"].contiguous(), None, None))
    x = _given(1, 2, 2, 9, 24, torch.float32, camera=False, cut=False)
    first, second = (_call(_fused, x, MAIN) for _ in range(2))
    if not all(torch.equal(first[name], second[name]) for name in first):
        wrong["second run"] = "other bits"
    print(json.dumps(wrong))


@needs_triton
def test_interpreted_kernels_agree_with_the_plain_rule() -> None:
    assert run_interpreted(__file__) == {}


def test_a_cpu_and_float64_have_the_plain_rule() -> None:
    x = _given(1, 1, 2, 5, 16, torch.float32, camera=True, cut=False)
    assert backend(x["v"]) == "plain"
    ours, _ = gated_delta(*(x[name] for name in CAMERA))
    assert torch.equal(ours, gated_delta_plain(*(x[name] for name in CAMERA))[0])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("camera", [False, True])
@pytest.mark.parametrize(
    ("B", "h", "T", "S", "D"),
    [(1, 2, 1, 15, 16), (2, 2, 2, 56, 24), (3, 2, 7, 240, 64), (1, 2, 41, 240, 112), (2, 1, 63, 56, 128),
     (1, 2, 121, 880, 112)],
)  # fmt: skip
def test_a_gpu_agrees_with_the_plain_rule(
    B: int, h: int, T: int, S: int, D: int, camera: bool, dtype: torch.dtype
) -> None:
    x = _given(B, h, T, S, D, dtype, camera=camera, cut=T in (7, 63), device="cuda")
    names = CAMERA if camera else MAIN
    found = _call(gated_delta, x, names)
    assert backend(x["v"]) == "triton"
    assert _too_far(found, _exact(x, names), dtype) == {}
    poison = [torch.full_like(value, torch.nan) for value in found.values() for _ in range(3)]
    del poison  # memory full of NaN, which the next results are likely to be given
    again = _call(gated_delta, x, names)
    assert all(torch.equal(found[name], again[name]) for name in found)


if __name__ == "__main__":
    _main()
