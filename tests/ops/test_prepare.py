"""Heads are prepared in the order of the equations: filter, norm, ReLU and scale, then turned."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.ops.features import norm_features
from sana_wm.ops.prepare import Norm, Turn, energy_growth, prepare_heads, split_heads
from sana_wm.ops.rotary import rotate_pairs

HEADS, D = 2, 16


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def test_heads_are_normed_then_turned() -> None:
    x, angle = _draw(1, 2, 3, HEADS * D), _draw(6, D // 2)
    norm = Norm(1 + _draw(HEADS * D), 1e-5, taps=_draw(HEADS * D, 1, 4), relu=True, scale=0.3)
    made = prepare_heads(x, HEADS, norm, Turn(angle.cos(), angle.sin()))
    normed = split_heads(norm_features(x, norm.gain, 1e-5, taps=norm.taps, relu=True, scale=0.3), HEADS)
    assert torch.equal(made.normed, normed)
    assert torch.equal(made.turned, rotate_pairs(normed, angle.cos()[:, None], angle.sin()[:, None]))


def test_turning_back_undoes_turning() -> None:
    x, angle = _draw(1, 2, 3, HEADS * D), _draw(6, D // 2)
    there = prepare_heads(x, HEADS, None, Turn(angle.cos(), angle.sin())).turned
    back = Turn(angle.cos(), angle.sin(), inverse=True).of(there)
    torch.testing.assert_close(back, split_heads(x, HEADS))


def test_energy_grows_by_the_matrix_and_not_by_the_rotation() -> None:
    x, angle = _draw(1, 1, 6, HEADS * D), _draw(6, D // 4)
    matrix = 2 * torch.eye(4).expand(1, 6, 4, 4)
    made = prepare_heads(x, HEADS, None, Turn(angle.cos(), angle.sin(), matrix))
    first, second = (half.square().sum(-1) for half in made.normed.chunk(2, -1))
    torch.testing.assert_close(energy_growth(made), (4 * first + second) / (first + second))
