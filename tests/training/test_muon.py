from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sana_wm.training.muon import MATCHED_RMS, Muon, hidden_matrices, orthogonalise
from sana_wm.training.optim import Optimizer
from sana_wm.training.recipe import OptimizerRecipe, load_recipe
from sana_wm.training.world import WorldModel
from tests.training.tiny import assert_same

RECIPE = OptimizerRecipe(
    steps=100, lr=0.02, warmup_steps=0, decay_steps=20, weight_decay=0.1, betas=(0.9, 0.99), grad_clip=1.0, ema=0.9,
    hidden="muon",
)  # fmt: skip


class Tower(nn.Module):
    """One of every kind of weight that the optimiser has to tell apart."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Linear(3, 8)
            mixing = nn.Conv2d(8, 6, 3, padding=1)
            depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
            self.layers = nn.ModuleList([mixing, depthwise, nn.Conv2d(6, 8, 1), nn.GroupNorm(1, 8)])
            self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).mT[..., None]
        for layer in self.layers:
            x = layer(x)
        return self.last(x.squeeze(-1).mT)


def loss(model: nn.Module, step: int) -> Tensor:
    x = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(step))
    return (model(x) - x[..., :2]).square().mean()


def test_only_weights_of_repeated_layers_that_mix_channels_are_hidden_matrices() -> None:
    assert set(hidden_matrices(Tower())) == {"layers.0.weight", "layers.2.weight"}


def test_of_the_world_model_it_moves_most_weights_and_no_embedding() -> None:
    model = WorldModel(load_recipe("nano").world, torch.Generator().manual_seed(0))
    hidden = hidden_matrices(model)
    assert sum(p.numel() for p in hidden.values()) > 0.9 * sum(p.numel() for p in model.parameters())
    assert not [n for n in hidden if "embed" in n or "table" in n or "depth_conv" in n or "norm" in n or "final" in n]


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 40), (1, 40, 5), (1, 1, 7)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 7
    found = torch.linalg.svdvals(orthogonalise(matrices))
    assert float(found.max()) < 1.3
    assert float(found.median()) > 0.6
    one = torch.cat([orthogonalise(m[None]) for m in matrices])
    torch.testing.assert_close(orthogonalise(matrices), one, rtol=1e-4, atol=1e-5)


def test_an_update_keeps_the_directions_of_the_gradient_and_has_the_size_of_adams() -> None:
    p = nn.Parameter(torch.zeros(6, 20, 3))
    p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
    Muon({"p": p}, 0.0).step(0.01)
    left, _, right = torch.linalg.svd(p.grad.flatten(1), full_matrices=False)
    moved = torch.diagonal(left.mT @ p.detach().flatten(1) @ right.mT)
    assert (moved < 0).all()
    assert float(p.detach().square().mean().sqrt()) == pytest.approx(0.01 * MATCHED_RMS, rel=0.3)


def test_weights_decay_by_the_rate_and_those_without_a_gradient_stay() -> None:
    used, unused = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    used.grad = torch.zeros(4, 4)
    Muon({"used": used, "unused": unused}, 0.5).step(0.1)
    torch.testing.assert_close(used.detach(), torch.full((4, 4), 0.95))
    assert torch.equal(unused.detach(), torch.ones(4, 4))


def test_it_learns_and_goes_on_exactly_from_its_state() -> None:
    whole = Tower()
    optimizer = Optimizer(whole, RECIPE)
    losses = [loss(whole, step).detach() for step in range(60) if optimizer.step(loss(whole, step), step) is not None]
    assert float(torch.stack(losses[-10:]).mean()) < 0.5 * float(losses[0])

    first = Tower()
    early = Optimizer(first, RECIPE)
    for step in range(30):
        early.step(loss(first, step), step)
    second = Tower(seed=1)
    second.load_state_dict(first.state_dict())
    late = Optimizer(second, RECIPE)
    late.load_state_tensors({name: value.clone() for name, value in early.state_tensors().items()})
    for step in range(30, 60):
        late.step(loss(second, step), step)
    assert_same(second.state_dict(), whole.state_dict())
    assert_same(late.state_tensors(), optimizer.state_tensors())


def test_adam_alone_keeps_no_momentum_of_muon() -> None:
    state = Optimizer(Tower(), replace(RECIPE, hidden="adamw")).state_tensors()
    assert not [name for name in state if name.startswith("muon")]
