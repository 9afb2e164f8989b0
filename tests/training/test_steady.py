"""Heads whose state grows without end are found and quietened, and others are left alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.training.steady import LIMIT, largest_eigenvalue, quieten, watch_growth
from sana_wm.worlds.paths import random_paths
from tests.training import tiny

BLOCK, HEAD = 0, 1


def model() -> SanaWMTransformer:
    return tiny.world(tiny.recipe("seed=3")).model.transformer.eval()


def gains(transformer: SanaWMTransformer, name: str) -> Tensor:
    """(h, D) view of the gains of a block's key norm."""
    return transformer.blocks[BLOCK].get_parameter(f"attn.{name}.weight").detach().view(2, -1)


def run(transformer: SanaWMTransformer, frames: int = 17) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    c2w = random_paths(1, frames, generator)
    given = (c2w, torch.tensor([20.0, 20.0, 15.5, 7.5]).expand(1, frames, 4), (16, 32), (1, 2))
    latents = (frames - 1) // 8 + 1
    x = torch.randn(1, 4, latents, 1, 2, generator=generator)
    caption = torch.randn(1, 1, 4, 24, generator=generator)
    with torch.no_grad():
        return transformer(
            x, torch.full((1,), 900.0), caption, None, camera_conditions(*given), chunk_plucker(*given)
        )


def test_ordinary_weights_are_left_alone() -> None:
    transformer = model()
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    with watch_growth(transformer) as growth:
        run(transformer)
    assert growth.largest <= LIMIT
    assert quieten(transformer, growth) == []
    assert all(torch.equal(before[name], value) for name, value in transformer.state_dict().items())


@pytest.mark.parametrize(("norm", "branch"), [("k_norm", "main"), ("k_norm_cam", "camera")])
def test_a_head_with_too_large_keys_is_brought_to_the_limit(norm: str, branch: str) -> None:
    transformer = model()
    gains(transformer, norm)[HEAD] *= 30
    other = gains(transformer, norm)[0].clone()
    with watch_growth(transformer) as growth:
        run(transformer)
    assert growth.largest > 5
    touched = quieten(transformer, growth)
    assert [(block, which, head) for block, which, head, _ in touched] == [(BLOCK, branch, HEAD)]
    assert torch.equal(gains(transformer, norm)[0], other)
    with watch_growth(transformer) as after:
        run(transformer)
    assert after.largest <= LIMIT * 1.001
    assert after.largest > 0.5 * LIMIT  # no more than needed


def test_a_long_clip_stays_finite_once_the_head_is_quiet() -> None:
    transformer = model()
    gains(transformer, "k_norm")[HEAD] *= 300
    frames = 8 * 60 + 1
    assert not run(transformer, frames).isfinite().all()
    with watch_growth(transformer) as growth:
        run(transformer)
    quieten(transformer, growth)
    assert run(transformer, frames).isfinite().all()


def test_heads_are_measured_under_autocast_as_a_run_on_a_gpu_has_it() -> None:
    transformer = model()
    with watch_growth(transformer) as plain:
        run(transformer)
    with watch_growth(transformer) as growth, torch.autocast("cpu", torch.bfloat16):
        run(transformer)
    assert growth.largest == pytest.approx(plain.largest, abs=0.05)


def test_nothing_is_watched_after_the_end() -> None:
    transformer = model()
    with watch_growth(transformer) as growth:
        pass
    run(transformer)
    assert growth.worst == {}


@pytest.mark.parametrize("size", [1, 8, 64])
def test_the_largest_eigenvalue_is_that_of_the_decomposition(size: int) -> None:
    """Also where others are nearly as large, of no matrix at all, and told apart from one that is not finite."""
    generator = torch.Generator().manual_seed(size)
    keys = torch.randn(50, 3 * size, size, generator=generator)
    matrices = keys.mT @ keys * torch.logspace(-6, 6, 50)[:, None, None]
    expected = torch.linalg.eigvalsh(matrices.double())[..., -1]
    torch.testing.assert_close(largest_eigenvalue(matrices).double(), expected, rtol=1e-3, atol=0)
    assert largest_eigenvalue(torch.zeros(2, size, size)).tolist() == [0, 0]
    torch.testing.assert_close(largest_eigenvalue(3 * torch.eye(size)), torch.tensor(3.0))
    broken = torch.stack([torch.eye(size), torch.full((size, size), torch.nan)])
    assert largest_eigenvalue(broken).tolist() == [1, torch.inf]
