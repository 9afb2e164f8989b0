"""Initialisation against the table of spec 10, section 12."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sana_wm.models.frame_gdn import FrameGatedDeltaNet
from sana_wm.models.init import camera_from_main, init_transformer
from sana_wm.models.transformer import SanaWMTransformer
from tests.models.small import CONFIG, fresh

WIDE = replace(CONFIG, width=64, caption_channels=48, in_channels=24)


@pytest.fixture(scope="module")
def model() -> SanaWMTransformer:
    return fresh(WIDE)


def test_the_seed_decides_every_weight() -> None:
    """Whatever the layers were built with, and whatever state the global generator is in."""
    torch.manual_seed(1)
    first = fresh(seed=3).state_dict()
    torch.manual_seed(2)
    again = fresh(seed=3).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    other = fresh(seed=4)
    same = {name for name, value in other.state_dict().items() if torch.equal(value, first[name])}
    assert not any(same & {"x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "y_embedder.y_embedding"})


def test_initialising_draws_nothing_from_the_global_generator() -> None:
    built = SanaWMTransformer(CONFIG)
    before = torch.get_rng_state()
    init_transformer(built, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_is_left_of_what_the_memory_held() -> None:
    """A model that is built without memory gets it uninitialised."""
    with torch.device("meta"):
        built = SanaWMTransformer(CONFIG)
    built.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in built.state_dict().values():
            tensor.fill_(torch.nan)
    init_transformer(built, torch.Generator().manual_seed(3))
    expected = fresh(seed=3).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in built.state_dict().items())


def test_linears_are_xavier_with_zero_bias(model: SanaWMTransformer) -> None:
    listed = ("t_embedder", "t_block", "y_proj", "beta_proj", "gate_proj", "output_gate", "_cam")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if module.bias is not None and not name.endswith(("output_gate", "beta_proj")):
                assert not module.bias.any(), name
            if not any(part in name for part in listed):
                bound = math.sqrt(6 / (module.in_features + module.out_features))
                assert_uniform(module.weight, bound, name)


def assert_uniform(weight: Tensor, bound: float, name: str) -> None:
    assert weight.abs().max() <= bound, name
    assert weight.abs().max() > 0.95 * bound, name
    assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.1), name


def test_embeddings_start_as_the_table_says(model: SanaWMTransformer) -> None:
    patch = model.x_embedder.proj
    assert_uniform(patch.weight, math.sqrt(6 / (24 + 64)), "x_embedder")
    assert patch.bias is not None
    assert 0 < patch.bias.abs().max() <= 24**-0.5
    caption, time = model.y_embedder.y_proj, model.t_embedder.mlp
    for linear in (time[0], time[2], model.t_block[1], caption.fc1, caption.fc2):
        assert isinstance(linear, nn.Linear)
        assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not model.plucker_embedder.proj.weight.any()
    assert model.plucker_embedder.proj.bias is not None
    assert not model.plucker_embedder.proj.bias.any()
    assert float(model.y_embedder.y_embedding.std()) == pytest.approx(48**-0.5, rel=0.15)


def test_blocks_start_as_the_table_says(model: SanaWMTransformer) -> None:
    for table in [model.final_layer.scale_shift_table, *(block.scale_shift_table for block in model.blocks)]:
        assert float(table.detach().std()) == pytest.approx(64**-0.5, rel=0.25)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
    for block in model.blocks:
        assert not block.mlp.t_conv.weight.any()
        for conv, fan_in in ((block.mlp.inverted_conv, 64), (block.mlp.depth_conv, 9), (block.mlp.point_conv, 128)):
            assert_uniform(conv.conv.weight, fan_in**-0.5, "mlp")
        gate = block.attn.output_gate
        assert not gate.weight.any()
        torch.testing.assert_close(nn.functional.silu(gate.bias), torch.ones(64))


def test_gates_start_near_plain_linear_attention(model: SanaWMTransformer) -> None:
    attn = model.blocks[0].attn
    assert isinstance(attn, FrameGatedDeltaNet)
    beta, decay = attn.gates(torch.randn(1, 2, 6, 64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(beta, torch.full_like(beta, 0.993307), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(decay, torch.full_like(decay, 0.993307), rtol=1e-6, atol=1e-6)
    for conv in (attn.conv_k, attn.conv_k_cam):
        assert torch.equal(conv.weight, torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(64, 1, 4))


@torch.no_grad()
def test_the_camera_branch_is_a_silent_copy_of_the_main_one() -> None:
    """Also of weights that were loaded, not drawn."""
    model = fresh()
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator))
    camera_from_main(model)
    for block in model.blocks:
        attn = block.attn
        copies = torch.cat([attn.q_proj_cam.weight, attn.k_proj_cam.weight, attn.v_proj_cam.weight])
        assert torch.equal(copies, attn.qkv.weight)
        assert torch.equal(attn.q_norm_cam.weight, attn.q_norm.weight)
        assert torch.equal(attn.k_norm_cam.weight, attn.k_norm.weight)
        if isinstance(attn, FrameGatedDeltaNet):
            assert torch.equal(attn.conv_k_cam.weight, attn.conv_k.weight)
        for linear in (attn.q_proj_cam, attn.k_proj_cam, attn.v_proj_cam):
            assert not linear.bias.any()
        assert not attn.out_proj_cam.weight.any()
        assert not attn.out_proj_cam.bias.any()
