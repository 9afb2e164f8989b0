from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sana_wm.training.optim import Ema, Optimizer, learning_rate
from sana_wm.training.recipe import OptimizerRecipe
from tests.training.tiny import assert_same

RECIPE = OptimizerRecipe(
    steps=100, lr=2.0, warmup_steps=10, decay_steps=20, weight_decay=0.1, betas=(0.9, 0.99), grad_clip=1.0, ema=0.9
)


def test_the_rate_rises_then_stays_then_falls_to_zero() -> None:
    rates = [learning_rate(RECIPE, step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10:81] == [2.0] * 71
    assert rates[80:] == pytest.approx([0.1 * (100 - step) for step in range(80, 101)])
    assert rates[99] > 0
    assert rates[100] == 0


def test_a_schedule_may_leave_out_warm_up_and_decay() -> None:
    plain = replace(RECIPE, warmup_steps=0, decay_steps=0)
    assert [learning_rate(plain, step) for step in (0, 50, 99)] == [2.0, 2.0, 2.0]


def module(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))


def loss(model: nn.Module, step: int) -> Tensor:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
    return (model(x) - 1).square().mean()


def test_the_average_of_rounded_weights_is_not_rounded() -> None:
    model = module().bfloat16()
    ema = Ema(model, 0.9)
    before = {name: p.detach().float() for name, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    ema.update(model, 500)
    for name, p in model.named_parameters():
        torch.testing.assert_close(ema.average[name], 0.9 * before[name] + 0.1 * p.detach().float())


def test_the_average_follows_the_weights() -> None:
    """Over the steps so far at first, with its own horizon later."""
    model = module()
    ema = Ema(model, 0.9)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step, decay in ((0, 0.1), (1, 2 / 11), (500, 0.9)):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1.0)
        ema.update(model, step)
        for name, p in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach()
            torch.testing.assert_close(ema.average[name], expected[name])
    ema.copy_to(model)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name])


def test_the_average_is_float32_and_a_copy() -> None:
    model = module().bfloat16()
    ema = Ema(model, 0.9)
    before = {name: value.clone() for name, value in ema.average.items()}
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert_same(ema.average, before)
    assert {value.dtype for value in ema.average.values()} == {torch.float32}


def test_an_optimizer_goes_on_exactly_from_its_state() -> None:
    whole = module()
    optimizer = Optimizer(whole, RECIPE)
    for step in range(6):
        optimizer.step(loss(whole, step), step)

    first = module()
    early = Optimizer(first, RECIPE)
    for step in range(3):
        early.step(loss(first, step), step)
    state = {name: value.clone() for name, value in early.state_tensors().items()}
    weights = {name: value.clone() for name, value in first.state_dict().items()}

    second = module(seed=1)
    second.load_state_dict(weights)
    late = Optimizer(second, RECIPE)
    late.load_state_tensors(state)
    assert_same(late.state_tensors(), state)
    for step in range(3, 6):
        late.step(loss(second, step), step)
    assert_same(second.state_dict(), whole.state_dict())
    assert_same(late.state_tensors(), optimizer.state_tensors())


def test_loading_a_state_keeps_no_hold_of_it() -> None:
    model = module()
    optimizer = Optimizer(model, RECIPE)
    optimizer.step(loss(model, 0), 0)
    state = {name: value.clone() for name, value in optimizer.state_tensors().items()}
    kept = {name: value.clone() for name, value in state.items()}
    optimizer.load_state_tensors(state)
    optimizer.step(loss(model, 1), 1)
    assert_same(state, kept)


def test_a_weight_that_was_never_used_survives_the_round_trip() -> None:
    """A camera path, for example, when the first steps dropped the cameras."""
    model = nn.ModuleDict({"used": nn.Linear(3, 1), "unused": nn.Linear(3, 1)})
    optimizer = Optimizer(model, RECIPE)
    optimizer.step(model["used"](torch.ones(1, 3)).square().mean(), 0)
    state = optimizer.state_tensors()
    assert {name for name in state if name.startswith("adamw.exp_avg.")} == {
        "adamw.exp_avg.used.weight",
        "adamw.exp_avg.used.bias",
    }
    other = Optimizer(nn.ModuleDict({"used": nn.Linear(3, 1), "unused": nn.Linear(3, 1)}), RECIPE)
    other.load_state_tensors(state)
    assert_same(other.state_tensors(), state)


def test_gradients_are_clipped_and_their_norm_reported() -> None:
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    optimizer = Optimizer(model, replace(RECIPE, lr=1e-3, warmup_steps=0, weight_decay=0.0))
    x = torch.tensor([[30.0, 40.0, 0.0, 0.0]])
    norm = optimizer.step(model(x).sum(), 0)
    assert float(norm) == pytest.approx(50.0)
    moments = optimizer.adamw.state[model.weight]["exp_avg"]
    torch.testing.assert_close(moments, 0.1 * x / 50, rtol=1e-4, atol=1e-7)


def test_matrices_decay_and_vectors_do_not() -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    optimizer = Optimizer(model, replace(RECIPE, lr=0.5, warmup_steps=0))
    optimizer.step(0.0 * model(torch.ones(1, 3)).sum(), 0)
    torch.testing.assert_close(model.weight.detach(), torch.full((2, 3), 0.95))
    assert torch.equal(model.bias.detach(), torch.ones(2))


def test_no_gradient_is_left_over_for_the_next_step() -> None:
    model = module()
    optimizer = Optimizer(model, RECIPE)
    optimizer.step(loss(model, 0), 0)
    assert all(p.grad is None for p in model.parameters())
