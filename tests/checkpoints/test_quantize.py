"""Eight-bit storage keeps every weight within half a step of its channel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.checkpoints.quantize import dequantize_state, quantize_state
from sana_wm.errors import InputError


def random(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * scale


@pytest.mark.parametrize("shape", [(64, 64), (48, 32, 3, 3), (4096, 1, 4), (8, 16, 1, 3, 17), (1, 5000)])
def test_the_error_is_at_most_half_a_step_of_the_channel(shape: tuple[int, ...]) -> None:
    weight = random(*shape) * torch.logspace(-3, 3, shape[0]).view(-1, *[1] * (len(shape) - 1))
    stored = quantize_state({"w": weight})
    assert stored["w"].dtype == torch.int8
    assert stored["w.scale"].shape == shape[:1]
    step = weight.flatten(1).abs().amax(1) / 127
    error = (dequantize_state(stored)["w"] - weight).flatten(1).abs().amax(1)
    assert bool((error <= step * 0.501).all())


def test_the_largest_number_of_a_channel_survives() -> None:
    weight = random(64, 64)
    restored = dequantize_state(quantize_state({"w": weight}))["w"]
    assert torch.allclose(restored.abs().amax(1), weight.abs().amax(1), rtol=1e-6)


def test_stored_twice_is_stored_once() -> None:
    once = quantize_state({"conv.weight": random(64, 16, 2, 3), "bias": random(5)})
    again = quantize_state(dequantize_state(once))
    assert once.keys() == again.keys()
    assert torch.equal(once["conv.weight"], again["conv.weight"])
    assert torch.equal(once["bias"], again["bias"])


def test_channels_of_zeros_and_of_vanishing_numbers_stay_finite() -> None:
    weight = random(64, 64)
    weight[3] = 0
    weight[5] = 1e-45
    restored = dequantize_state(quantize_state({"w": weight}))["w"]
    assert bool((restored[3] == 0).all())
    assert bool(torch.isfinite(restored).all())
    assert float(restored[5].abs().max()) < 1e-40


def test_small_tensors_are_half_precision_and_sensitive_ones_full() -> None:
    state = {
        "bias": random(10_000),
        "small": random(8, 8),
        "scalar": torch.tensor(0.3),
        "empty": torch.zeros(0),
        "large": torch.tensor([1e6]),
        "blocks.0.attn.A_log": random(4),
        "blocks.0.attn.dt_bias": random(4),
        "latents_mean": random(4096, 2),
    }
    stored = quantize_state(state)
    assert {key: tensor.dtype for key, tensor in stored.items()} == {
        "bias": torch.float16,
        "small": torch.float16,
        "scalar": torch.float16,
        "empty": torch.float16,
        "large": torch.float32,
        "blocks.0.attn.A_log": torch.float32,
        "blocks.0.attn.dt_bias": torch.float32,
        "latents_mean": torch.float32,
    }
    restored = dequantize_state(stored)
    assert all(restored[key].dtype == torch.float32 and restored[key].shape == state[key].shape for key in state)
    assert torch.equal(restored["blocks.0.attn.A_log"], state["blocks.0.attn.A_log"])
    assert torch.allclose(restored["bias"], state["bias"], rtol=1e-3, atol=1e-6)


def test_bfloat16_in_gives_the_same_storage_as_its_float32_values() -> None:
    weight = random(64, 64).bfloat16()
    assert torch.equal(quantize_state({"w": weight})["w"], quantize_state({"w": weight.float()})["w"])


def test_a_parameter_called_scale_is_left_alone() -> None:
    state = {"norm.scale": random(8), "norm.bias": random(8), "w": random(64, 64)}
    restored = dequantize_state(quantize_state(state))
    assert restored.keys() == state.keys()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"ids": torch.zeros(4, dtype=torch.int64)}, "ids is torch.int64"),
        ({"w": torch.full((64, 64), float("nan"))}, "finite"),
        ({"w": torch.ones(64, 64), "w.scale": torch.ones(64)}, r"w\.scale"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        quantize_state(state)


@pytest.mark.parametrize("scale", [None, torch.ones(3)])
def test_eight_bits_without_their_scale_are_refused(scale: Tensor | None) -> None:
    stored = {"w": torch.ones(4, 4, dtype=torch.int8)} | ({} if scale is None else {"w.scale": scale})
    with pytest.raises(InputError, match="int8 tensor w"):
        dequantize_state(stored)
