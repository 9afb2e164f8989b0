"""Guidance: the layout of the batch, the formula, and half the cost where it is off."""

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.sampling import guided, needs_uncond

LATENTS = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
TIMESTEPS = torch.tensor([[[0.0, 500.0, 500.0, 500.0]]]).expand(2, 1, 4)


def test_the_unconditional_items_come_first_and_both_halves_see_the_same_latents_and_times() -> None:
    bias = torch.tensor([1.0, 2.0, 30.0, 40.0]).view(4, 1, 1, 1, 1)  # uncond 0, uncond 1, cond 0, cond 1
    seen = []

    def model(latents: Tensor, timesteps: Tensor) -> Tensor:
        seen.append((latents, timesteps))
        return latents + bias

    velocity = guided(model, 5.0)(LATENTS, TIMESTEPS)
    assert len(seen) == 1
    assert torch.equal(seen[0][0], torch.cat([LATENTS, LATENTS]))
    assert torch.equal(seen[0][1], torch.cat([TIMESTEPS, TIMESTEPS]))
    expected = LATENTS + torch.tensor([1 + 5 * 29.0, 2 + 5 * 38.0]).view(2, 1, 1, 1, 1)
    torch.testing.assert_close(velocity, expected)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_without_guidance_the_model_is_called_once_with_the_conditional_items_alone(scale: float) -> None:
    shapes = []

    def model(latents: Tensor, timesteps: Tensor) -> Tensor:
        shapes.append((latents.shape[0], timesteps.shape[0]))
        return latents

    assert not needs_uncond(scale)
    assert torch.equal(guided(model, scale)(LATENTS, TIMESTEPS), LATENTS)
    assert shapes == [(2, 2)]


def test_guidance_of_a_half_precision_model_is_computed_in_float32() -> None:
    def model(latents: Tensor, timesteps: Tensor) -> Tensor:
        return torch.cat([torch.full_like(LATENTS, 1.0), torch.full_like(LATENTS, 1.0078125)]).bfloat16()

    velocity = guided(model, 5.5)(LATENTS, TIMESTEPS)
    assert velocity.dtype == torch.float32
    assert velocity.unique().item() == pytest.approx(1.04296875, abs=1e-7)  # bfloat16 has 1.0390625 and 1.046875


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_scales_that_mean_nothing_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match="guidance_scale is"):
        guided(lambda latents, timesteps: latents, scale)
