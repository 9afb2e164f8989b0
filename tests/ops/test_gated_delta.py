"""The frame-wise gated delta rule against the equations of spec 10, section 6.7, read token by token in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sana_wm.ops.gated_delta import (
    affine_scan,
    bidirectional_scan,
    gated_delta_plain,
    scan,
    write_terms,
)

B, HEADS, T, S, D = 2, 2, 4, 3, 4
Inputs = dict[str, Tensor]


def absorb(state: Tensor, k: Tensor, values: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """One frame: decay, then every token writes its prediction error against the decayed state. k (B,h,S,D)."""
    decayed = decay[..., None, None] * state
    new = decayed
    for s in range(k.shape[2]):
        predicted = torch.einsum("bhd,bhdv->bhv", k[:, :, s], decayed)
        error = beta[:, :, s, None] * (values[:, :, s] - predicted)
        new = new + k[:, :, s, :, None] * error[:, :, None]
    return new


def naive_states(k: Tensor, values: Tensor, beta: Tensor, decay: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """(M_t) and (M'_t): forward including frame t, backward without it; decays are those of the frame absorbed."""
    frames = k.shape[2]
    empty = k.new_zeros(*k.shape[:2], k.shape[-1], values.shape[-1])

    def step(state: Tensor, t: int) -> Tensor:
        return absorb(state, k[:, :, t], values[:, :, t], beta[:, :, t], decay[:, :, t])

    forward = []
    state = empty
    for t in range(frames):
        state = step(state, t)
        forward.append(state)
    backward = [empty]
    for t in range(frames - 2, -1, -1):
        backward.insert(0, step(backward[0], t + 1))
    return forward, backward


def naive_numerator(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    forward, backward = naive_states(k, v, beta, decay)
    return torch.stack([q[:, :, t] @ (m + n) for t, (m, n) in enumerate(zip(forward, backward, strict=True))], dim=2)


def naive_rule(
    q: Tensor, k: Tensor, v: Tensor, q_rotated: Tensor, k_rotated: Tensor, beta: Tensor, decay: Tensor
) -> Tensor:
    ones = torch.ones_like(v[..., :1])
    return naive_numerator(q_rotated, k_rotated, v, beta, decay) / (naive_numerator(q, k, ones, beta, decay) + 1e-8)


def inputs(frames: int = T, seed: int = 0) -> Inputs:
    """Float64; keys and queries are positive, as they are after the ReLU, so the denominator stays away from zero."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(B, HEADS, frames, *shape, generator=g, dtype=torch.float64)

    return {
        "q": draw(S, D).abs() + 0.1,
        "k": (draw(S, D).abs() + 0.1) * (S * D) ** -0.5,
        "v": draw(S, D),
        "q_rotated": draw(S, D),
        "k_rotated": draw(S, D) * (S * D) ** -0.5,
        "beta": torch.sigmoid(draw(S)),
        "decay": 0.6 + 0.4 * torch.sigmoid(draw()),
    }


def gated_delta_rule(**x: Tensor) -> Tensor:
    return gated_delta_plain(**x)[0]  # type: ignore[arg-type]


def single(x: Inputs) -> Inputs:
    return {name: tensor.float() for name, tensor in x.items()}


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_rule_is_the_token_by_token_loop(frames: int) -> None:
    x = inputs(frames)
    torch.testing.assert_close(gated_delta_rule(**single(x)), naive_rule(**x).float(), rtol=2e-5, atol=2e-5)


def test_the_numerator_is_the_token_by_token_loop() -> None:
    x = inputs()
    names = ("q_rotated", "k_rotated", "v", "beta", "decay")
    expected = naive_numerator(*(x[n] for n in names)).float()
    torch.testing.assert_close(gated_delta_plain(*(x[n].float() for n in names))[0], expected, rtol=2e-5, atol=2e-5)


def test_the_forward_state_holds_its_own_frame_and_the_backward_state_only_later_ones() -> None:
    x = inputs()
    forward, backward = naive_states(x["k"], x["v"], x["beta"], x["decay"])
    f = single(x)
    states = bidirectional_scan(*write_terms(f["k"], f["v"], f["beta"]), f["decay"])
    for t in range(T):
        torch.testing.assert_close(states.forward[:, :, t], forward[t].float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(states.backward[:, :, t], backward[t].float(), rtol=1e-5, atol=1e-5)
    assert not states.backward[:, :, -1].any()
    torch.testing.assert_close(states.both(), states.forward + states.backward)


@pytest.mark.parametrize(
    ("changed", "forward", "backward"), [(0, [], []), (1, [1, 2, 3], [0]), (2, [2, 3], [0, 1]), (3, [3], [])]
)
def test_a_decay_belongs_to_the_frame_that_is_absorbed(changed: int, forward: list[int], backward: list[int]) -> None:
    """What a direction absorbs first meets an empty state, which no decay changes."""
    f = single(inputs())
    erase, write = write_terms(f["k"], f["v"], f["beta"])
    other = f["decay"].clone()
    other[:, :, changed] *= 0.5
    before, after = bidirectional_scan(erase, write, f["decay"]), bidirectional_scan(erase, write, other)

    def moved(a: Tensor, b: Tensor) -> list[int]:
        return [t for t in range(T) if not torch.equal(a[:, :, t], b[:, :, t])]

    assert moved(before.forward, after.forward) == forward
    assert moved(before.backward, after.backward) == backward


def test_a_scan_goes_on_exactly_from_its_last_state() -> None:
    f = single(inputs(frames=5))
    erase, write = write_terms(f["k"], f["v"], f["beta"])
    whole = scan(erase, write, f["decay"])
    state, parts = None, []
    for span in (slice(0, 2), slice(2, 3), slice(3, 5)):
        parts.append(scan(erase[:, :, span], write[:, :, span], f["decay"][:, :, span], state))
        state = parts[-1][:, :, -1]
    assert torch.equal(torch.cat(parts, dim=2), whole)


def test_a_scan_takes_any_number_of_leading_axes() -> None:
    f = single(inputs())
    erase, write = write_terms(f["k"], f["v"], f["beta"])
    start = torch.randn(B, HEADS, D, D, generator=torch.Generator().manual_seed(2))
    for initial in (None, start):
        whole = scan(erase, write, f["decay"], initial)
        one = None if initial is None else initial[1, 0]
        torch.testing.assert_close(scan(erase[1, 0], write[1, 0], f["decay"][1, 0], one), whole[1, 0])
        head = None if initial is None else initial[:, 1]
        torch.testing.assert_close(scan(erase[:, 1], write[:, 1], f["decay"][:, 1], head), whole[:, 1])


def test_a_scan_keeps_float32_under_autocast_and_from_bfloat16() -> None:
    f = single(inputs())
    erase, write = write_terms(f["k"], f["v"], f["beta"])
    rounded = [x.bfloat16() for x in (erase, write, f["decay"])]
    expected = scan(*(x.float() for x in rounded))
    with torch.autocast("cpu", torch.bfloat16):
        found = scan(*rounded)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_what_lies_before_a_frame_that_keeps_nothing_does_not_see_it() -> None:
    f = single(inputs(frames=5))
    keep = torch.ones(B, 5)
    keep[:, 2] = 0
    whole, end = gated_delta_plain(**f, keep=keep)  # type: ignore[arg-type]
    first = {name: x[:, :, :2] for name, x in f.items()}
    before, middle = gated_delta_plain(**first)  # type: ignore[arg-type]
    torch.testing.assert_close(whole[:, :, :2], before)
    rest = {name: x[:, :, 2:] for name, x in f.items()}
    after, last = gated_delta_plain(**rest, start=middle)  # type: ignore[arg-type]
    torch.testing.assert_close(whole[:, :, 2:], after)
    torch.testing.assert_close(end.state, last.state)
    assert end.z is not None
    torch.testing.assert_close(end.z, last.z)


@pytest.mark.parametrize("name", ["q", "k", "v", "q_rotated", "k_rotated", "beta", "decay"])
def test_the_gradient_of_the_rule_is_the_slope_of_the_loop(name: str) -> None:
    x = inputs()
    weight = torch.randn(B, HEADS, T, S, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    f = single(x)
    f[name].requires_grad_()
    (gated_delta_rule(**f) * weight.float()).sum().backward()
    found = f[name].grad
    assert found is not None

    def loss(value: Tensor) -> Tensor:
        return (naive_rule(**{**x, name: value}) * weight).sum()

    exact = x[name].clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(exact), exact)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4 * scale)
    assert slope(loss, x[name], direction(expected)) == pytest.approx(float(found.double().flatten().norm()), rel=1e-3)


@pytest.mark.parametrize("frames", [1, 3])
def test_the_gradients_of_a_scan_are_its_slopes(frames: int) -> None:
    """In float64, of all inputs, the initial state too."""
    x = inputs(frames)
    erase, write = write_terms(x["k"], x["v"], x["beta"])
    start = torch.randn(B, HEADS, D, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    leaves = tuple(tensor.detach()[:1, :1].requires_grad_() for tensor in (erase, write, x["decay"], start))
    assert scan(*leaves).dtype == torch.float64
    assert torch.autograd.gradcheck(scan, leaves)


def test_the_scan_is_a_well_behaved_operator() -> None:
    """No input is written to or returned, shapes are known without computing, and compiled code may hold it."""
    g = torch.Generator().manual_seed(0)
    shapes = ((3, 2, D, D), (3, 2, D, 5), (2, D, 5))
    leaves = tuple(torch.randn(shape, generator=g).requires_grad_() for shape in shapes)
    torch.library.opcheck(affine_scan, leaves)


def direction(x: Tensor) -> Tensor:
    return x / x.norm()


def slope(function: Callable[[Tensor], Tensor], at: Tensor, along: Tensor, step: float = 1e-5) -> float:
    """Central difference, float64."""
    return float(function(at + step * along) - function(at - step * along)) / (2 * step)
