"""The search for the longest clip, the timing of a step, and what is told when memory ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.speed import Shape, over_shapes, unless_memory_ends
from sana_wm.evaluation.train_speed import bench_train, largest_that_fits, longest_clip, measure_step
from sana_wm.models.transformer import SanaWMTransformer, checkpointed
from sana_wm.training.recipe import OptimizerRecipe
from sana_wm.training.transformer_step import TransformerStep
from tests.models.small import CONFIG, trained

CPU = torch.device("cpu")
RECIPE = OptimizerRecipe(
    steps=1, lr=0.0, warmup_steps=0, decay_steps=0, weight_decay=0.1, betas=(0.9, 0.99), grad_clip=1.0, ema=0.9
)


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 8, 9, 83, 500, 1023])
@pytest.mark.parametrize("first", [1, 8, 300])
def test_the_largest_number_that_fits_is_found(limit: int, first: int) -> None:
    tried: list[int] = []

    def fits(number: int) -> bool:
        tried.append(number)
        return number <= limit

    assert largest_that_fits(fits, first=first) == (limit, limit + 1)
    assert len(tried) == len(set(tried)) <= 21


@pytest.mark.parametrize("limit", [1, 3, 83, 500])
def test_the_search_ends_as_near_as_it_is_asked_to(limit: int) -> None:
    good, bad = largest_that_fits(lambda number: number <= limit, first=8, within=4)
    assert bad is not None
    assert 1 <= good <= limit < bad <= good + 4


def test_all_may_fit() -> None:
    assert largest_that_fits(lambda number: True, first=8, most=100) == (100, None)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED when creating")],
)
def test_a_shape_too_large_is_told_and_the_next_one_is_measured(error: Exception) -> None:
    def measure(shape: Shape) -> dict[str, Any]:
        if shape.latent_frames > 2:
            raise error
        return {"seconds": 1.0}

    found = over_shapes([Shape(3, (1, 1), 1), Shape(2, (1, 1), 1)], CPU, measure)
    assert [one.get("out_of_memory") for one in found] == [True, None]
    assert found[1] == {"latent_frames": 2, "grid": (1, 1), "batch": 1, "seconds": 1.0}


def test_other_errors_are_not_taken_for_the_end_of_memory() -> None:
    def work() -> dict[str, Any]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        unless_memory_ends(work, CPU)


def small_step(model: SanaWMTransformer) -> TransformerStep:
    return TransformerStep(model, RECIPE, checkpointed())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_is_timed_and_changes_no_weight(dtype: torch.dtype) -> None:
    model = trained().to(dtype)
    before = {name: p.clone() for name, p in model.named_parameters()}
    step = small_step(model)
    found = measure_step(model, step, Shape(2, (2, 3), 1), runs=2, plain=True)
    assert 0 < found["seconds"] <= found["p90_seconds"]
    assert found["peak_gb"] is None
    assert found["loss"] > 0
    assert found["gradient_norm"] > 0
    # Weights, two moments, and the average, which is float32.
    numbers = sum(p.numel() for p in model.parameters())
    assert found["resident_gb"] * 1e9 >= numbers * (3 * dtype.itemsize + 4)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_step_with_a_rate_trains() -> None:
    model = trained()
    rate = OptimizerRecipe(**{**vars(RECIPE), "lr": 1e-3, "steps": 100})
    step = TransformerStep(model, rate, checkpointed())
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, CONFIG.in_channels, 3, 2, 3, generator=generator)
    y = torch.randn(1, 1, CONFIG.caption_tokens, CONFIG.caption_channels, generator=generator)
    losses = []
    for _ in range(20):
        step(clean, noise, torch.tensor([[0.0, 0.5, 0.5]]), y)
        losses.append(float(step.loss))
    assert losses[-1] < losses[0]


class Forgetful(TransformerStep):
    """Memory ends in the middle of a step on more than 20 latent frames."""

    def __call__(self, clean: Tensor, noise: Tensor, sigma: Tensor, *conditions: Tensor | None) -> Tensor:
        if clean.shape[2] > 20:
            for p in self.model.parameters():
                p.grad = torch.ones_like(p)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return torch.ones(())


def test_the_longest_clip_is_looked_for_and_leaves_nothing_behind() -> None:
    model = trained()
    told: list[dict[str, Any]] = []
    step = Forgetful(model, RECIPE)
    found = longest_clip(model, step, Shape(1, (1, 1), 2), CPU, within=1, report=told.append)
    assert (found["latent_frames"], found["does_not_fit"], found["batch"]) == (20, 21, 2)
    assert [one["latent_frames"] for one in found["tried"]] == [8, 16, 32, 24, 20, 22, 21]
    assert [one["latent_frames"] for one in told] == [one["latent_frames"] for one in found["tried"]]
    assert all(p.grad is None for p in model.parameters())


def test_a_cpu_has_no_longest_clip() -> None:
    shape = Shape(1, (1, 1), 1)
    with pytest.raises(InputError, match="CUDA"):
        bench_train("nano", [shape], CPU, torch.float32, small_step, find_longest=shape)
