from __future__ import annotations

import torch

from sana_wm.ops.norm import modulated_layer_norm, rms_norm


def test_rms_norm_divides_by_the_root_mean_square_in_float32() -> None:
    g = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 16, generator=g).bfloat16(), torch.randn(16, generator=g).bfloat16()
    exact = x.double()
    expected = exact / (exact.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    found = rms_norm(x, weight, 1e-5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_epsilon_of_rms_norm_counts_for_small_inputs() -> None:
    x = torch.full((1, 4), 1e-3)
    torch.testing.assert_close(rms_norm(x, torch.ones(4), 1e-6), torch.full((1, 4), 0.5**0.5))
    assert torch.equal(rms_norm(torch.zeros(1, 4), torch.ones(4), 1e-6), torch.zeros(1, 4))


def test_modulation_scales_and_shifts_what_was_normalised() -> None:
    g = torch.Generator().manual_seed(0)
    x, shift, scale = (torch.randn(2, 8, generator=g, dtype=torch.float64) for _ in range(3))
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(modulated_layer_norm(x, shift, scale), normal * (1 + scale) + shift)
    assert modulated_layer_norm(x.bfloat16(), shift.bfloat16(), scale.bfloat16()).dtype == torch.bfloat16


def test_rms_norm_is_the_same_with_and_without_gradients() -> None:
    x = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-4, 1.0, 1e4])[:, None]
    x[0, 0] = 0
    weight = torch.linspace(-1, 2, 40)
    expected = rms_norm(x, weight, 1e-5)
    with torch.no_grad():
        torch.testing.assert_close(rms_norm(x, weight, 1e-5), expected)
