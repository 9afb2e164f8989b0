"""Products in eight bits change a velocity a little, and nothing else of a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sana_wm.errors import InputError
from sana_wm.models.fp8 import PRODUCTS, Fp8Linear, check_fp8, is_fp8, to_fp8
from tests.models.small import CONFIG, cameras, trained


def test_a_velocity_stays_about_the_same() -> None:
    model = trained(CONFIG)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, CONFIG.in_channels, 3, 2, 3, generator=generator)
    y = torch.randn(1, 1, CONFIG.caption_tokens, CONFIG.caption_channels, generator=generator)
    given = (x, torch.full((1, 1, 3), 500.0), y, None, *cameras(1, 3, 2, 3))
    with torch.inference_mode():
        exact = model(*given)
        assert not is_fp8(model)
        found = to_fp8(model)(*given)
    assert is_fp8(model)
    assert 1e-4 < float((found - exact).norm() / exact.norm()) < 0.1


def test_the_products_named_are_all_that_multiply_tokens_by_a_matrix() -> None:
    block = trained(CONFIG).blocks[0]
    large = {name for name, m in block.named_modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.weight.ndim >= 2}
    kept = {"attn.beta_proj", "attn.gate_proj", "plucker_proj", "cross_attn.kv_linear", "mlp.depth_conv.conv"}
    assert large == set(PRODUCTS) | kept


def test_a_product_of_odd_sides_stays_as_it_is() -> None:
    model = trained(CONFIG)
    block = model.blocks[0]
    block.cross_attn.proj = nn.Linear(CONFIG.width, 24)
    to_fp8(model)
    assert isinstance(block.get_submodule("cross_attn.proj"), nn.Linear)
    assert isinstance(block.get_submodule("cross_attn.q_linear"), Fp8Linear)


def test_a_device_without_eight_bits_is_refused() -> None:
    with pytest.raises(InputError, match="cpu"):
        check_fp8(torch.device("cpu"))
