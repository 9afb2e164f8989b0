"""Flow matching: spec 50, section 3."""

from __future__ import annotations

import pytest
import torch

from sana_wm.training.objective import add_noise, draw_sigma, shift_sigma, velocity_loss


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = generator()
    clean, noise = (torch.randn(2, 3, 4, 2, 2, generator=g) for _ in range(2))
    sigma = torch.rand(2, 4, generator=g)
    return clean, sigma, noise


def test_a_frame_without_noise_stays_clean() -> None:
    clean, sigma, noise = example()
    sigma[:, 0] = 0
    noised = add_noise(clean, sigma, noise)
    assert torch.equal(noised.latents[:, :, 0], clean[:, :, 0])
    assert not noised.timesteps[:, :, 0].any()
    assert not torch.allclose(noised.latents[:, :, 1], clean[:, :, 1], atol=1e-3)


def test_a_frame_at_full_noise_holds_nothing_else() -> None:
    clean, sigma, noise = example()
    noised = add_noise(clean, torch.ones_like(sigma), noise)
    assert torch.equal(noised.latents, noise)
    assert torch.equal(noised.timesteps, torch.full((2, 1, 4), 1000.0))


def test_the_target_leads_from_the_noised_latents_back_to_the_clean_ones() -> None:
    clean, sigma, noise = example()
    noised = add_noise(clean, sigma, noise)
    level = sigma[:, None, :, None, None]
    torch.testing.assert_close(noised.latents - level * noised.target, clean)
    torch.testing.assert_close(noised.latents + (1 - level) * noised.target, noise)
    torch.testing.assert_close(noised.timesteps, 1000 * sigma[:, None])


def test_the_target_is_the_derivative_of_the_path() -> None:
    clean, sigma, noise = example()
    ahead, behind = (add_noise(clean, sigma + step, noise).latents for step in (0.01, -0.01))
    torch.testing.assert_close((ahead - behind) / 0.02, add_noise(clean, sigma, noise).target, rtol=1e-3, atol=1e-3)


def test_noise_levels_have_the_quantiles_of_the_specification() -> None:
    """The table of section 3.2, for a shift of 9.95."""
    sigma = draw_sigma(200_000, 9.95, generator())
    quantiles = torch.tensor([0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99])
    table = torch.tensor([0.493, 0.658, 0.734, 0.835, 0.909, 0.951, 0.973, 0.981, 0.990])
    torch.testing.assert_close(sigma.quantile(quantiles), table, rtol=0, atol=0.006)
    assert sigma.min() > 0
    assert sigma.max() < 1


@pytest.mark.parametrize("shift", [1.0, 3.0, 9.95])
def test_the_shift_keeps_the_ends_and_the_order(shift: float) -> None:
    base = torch.linspace(0, 1, 101)
    shifted = shift_sigma(base, shift)
    assert (shifted[0], shifted[-1]) == (0, 1)
    assert bool((shifted.diff() > 0).all())
    torch.testing.assert_close(shifted[50], torch.tensor(shift / (1 + shift)))


def test_the_table_of_shifted_levels_is_the_published_one() -> None:
    """Section 3.1: the integer timesteps of some indices."""
    index = torch.tensor([0, 1, 2, 5, 10, 50, 100, 250, 500, 750, 900, 999], dtype=torch.float64)
    timesteps = (1000 * shift_sigma(index / 1000, 9.95)).floor().long().tolist()
    assert timesteps == [0, 9, 19, 47, 91, 343, 525, 768, 908, 967, 988, 999]


def test_noise_levels_follow_from_the_generator() -> None:
    assert torch.equal(draw_sigma(5, 3.0, generator(1)), draw_sigma(5, 3.0, generator(1)))
    assert not torch.equal(draw_sigma(5, 3.0, generator(1)), draw_sigma(5, 3.0, generator(2)))


def test_frames_that_are_not_supervised_do_not_count() -> None:
    velocity, _, target = example()
    weight = torch.tensor([[0.0, 1, 1, 1], [0, 1, 0, 1]])
    other = velocity.clone()
    other[:, :, 0] += 100
    other[1, :, 2] -= 50
    loss = velocity_loss(velocity, target, weight)
    assert torch.equal(velocity_loss(other, target, weight), loss)
    kept = [(velocity - target)[0, :, 1:], (velocity - target)[1, :, [1, 3]]]
    expected = torch.stack([error.square().mean() for error in kept]).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_no_gradient_comes_from_a_frame_that_is_not_supervised() -> None:
    velocity, _, target = example()
    velocity.requires_grad_()
    weight = torch.tensor([[0.0, 1, 1, 1]]).expand(2, 4)
    velocity_loss(velocity, target, weight).backward()
    assert velocity.grad is not None
    assert [bool(velocity.grad[:, :, t].any()) for t in range(4)] == [False, True, True, True]


def test_the_loss_is_formed_in_float32() -> None:
    velocity, _, target = example()
    weight = torch.ones(2, 4)
    loss = velocity_loss(velocity.bfloat16(), target, weight)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, velocity_loss(velocity.bfloat16().float(), target, weight))


def test_every_sample_weighs_the_same_however_many_of_its_frames_count() -> None:
    error = torch.zeros(2, 1, 4, 1, 1)
    error[0] = 1
    weight = torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1]])
    torch.testing.assert_close(velocity_loss(error, torch.zeros_like(error), weight), torch.tensor(0.5))
