"""How long one training step of the transformer takes, against the plain twins, and the longest clip that fits.

What a step does is the caller's: this file times it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.speed import (
    ForwardInputs,
    Report,
    Shape,
    check,
    forward_inputs,
    header,
    over_shapes,
    random_model,
    timed,
    unless_memory_ends,
)
from sana_wm.models.config import TRANSFORMERS
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.ops.dispatch import plain_only

FIRST_TRIED, MOST_TRIED = 8, 1024
"""Latent frames: where the search for the longest clip begins and where it ends."""


class Step(Protocol):
    """A training step: takes latents, noise, noise levels (B,T) and conditions, gives the norm of the gradients."""

    loss: Tensor

    def __call__(self, clean: Tensor, noise: Tensor, sigma: Tensor, *conditions: Tensor | None) -> Tensor: ...

    def release(self) -> None: ...

    def resident_bytes(self) -> int: ...


MakeStep = Callable[[SanaWMTransformer], Step]


def bench_train(
    preset: str,
    shapes: Sequence[Shape],
    device: torch.device,
    weights: torch.dtype,
    make_step: MakeStep,
    *,
    runs: int = 5,
    plain: bool = True,
    find_longest: Shape | None = None,
    within: int = 4,
    report: Report | None = None,
) -> dict[str, Any]:
    """All shapes one after another, then with `find_longest` its longest length (to `within` latent frames).

    Raises:
        InputError: there is no such preset, a number is below 1, or the longest clip is asked of a CPU.
    """
    check(preset, shapes, runs)
    if find_longest is not None and device.type != "cuda":
        raise InputError(f"the longest clip that fits is looked for on a CUDA device; device is {device.type!r}.")
    model = random_model(TRANSFORMERS[preset], device, weights).train()
    step = make_step(model)

    def measure(shape: Shape) -> dict[str, Any]:
        return measure_step(model, step, shape, runs=runs, plain=plain)

    results = over_shapes(shapes, device, measure, report)
    found = {**header("training step speed", 1, preset, weights, runs, device), "shapes": results}
    if find_longest is not None:
        found["longest"] = longest_clip(model, step, find_longest, device, within, report)
    return found


def measure_step(model: SanaWMTransformer, step: Step, shape: Shape, *, runs: int, plain: bool) -> dict[str, Any]:
    """Median and 90th percentile of `runs` steps in seconds, peak GB with all state (None on a CPU).

    With `plain`, on a GPU the same steps by the plain twins, how many times as long they take, and how far loss and
    norm of the gradients are apart, relative to the plain ones: meaningful if the optimiser's rate is zero.
    """
    device = next(model.parameters()).device
    given = _given(forward_inputs(model, shape, device))

    def take() -> Tensor:
        norm = step(*given)
        results[:] = [float(step.loss), float(norm)]
        return norm

    results: list[float] = []
    try:
        found = timed(take, runs, device)
        fast = list(results)
        found |= {"loss": fast[0], "gradient_norm": fast[1], "resident_gb": step.resident_bytes() / 1e9}
        if plain and device.type == "cuda":  # elsewhere they are what ran
            step.release()

            def by_twins() -> dict[str, Any]:
                with plain_only():
                    return timed(take, runs, device)

            found["plain"] = slow = unless_memory_ends(by_twins, device)
            if not slow.get("out_of_memory"):
                found["speed_up"] = slow["seconds"] / found["seconds"]
                pairs = zip(("loss", "gradient_norm"), fast, results, strict=True)
                found["apart"] = {name: abs(a - b) / abs(b) for name, a, b in pairs}
        return found
    finally:
        step.release()


def longest_clip(
    model: SanaWMTransformer, step: Step, shape: Shape, device: torch.device, within: int, report: Report | None = None
) -> dict[str, Any]:
    """The longest clip, on the grid and in the batch of `shape`, of which the device takes one step.

    Returns the length in latent frames (0 if none), the first length known not to fit (None if all do), what was tried.
    """
    tried: list[dict[str, Any]] = []

    def one_step(latent_frames: int) -> dict[str, Any]:
        given = _given(forward_inputs(model, Shape(latent_frames, shape.grid, shape.batch), device))
        try:
            return timed(lambda: step(*given), 1, device, warm_ups=0)
        finally:
            step.release()

    def fits(latent_frames: int) -> bool:
        found = {"latent_frames": latent_frames, **unless_memory_ends(lambda: one_step(latent_frames), device)}
        tried.append(found)
        if report is not None:
            report({**found, "batch": shape.batch, "search": True})
        return not found.get("out_of_memory")

    longest, fails = largest_that_fits(fits, first=FIRST_TRIED, within=within, most=MOST_TRIED)
    return {
        "latent_frames": longest, "does_not_fit": fails, "grid": shape.grid, "batch": shape.batch, "tried": tried
    }  # fmt: skip


def largest_that_fits(
    fits: Callable[[int], bool], *, first: int, within: int = 1, most: int = MOST_TRIED
) -> tuple[int, int | None]:
    """By doubling, then halving the gap: (a number that fits, one at most `within` more that does not).

    The first is 0 if not even 1 fits, the second None if `most` does.
    """
    good, bad, trial = 0, None, min(first, most)
    while bad is None:
        if not fits(trial):
            bad = trial
        elif trial == most:
            return most, None
        else:
            good, trial = trial, min(2 * trial, most)
    while bad - good > (within if good else 1):
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good, bad


def _given(inputs: ForwardInputs) -> tuple[Tensor, ...]:
    """Latents, noise, noise levels (B,T), conditions."""
    generator = torch.Generator(inputs.x.device).manual_seed(1)
    noise = torch.randn(inputs.x.shape, generator=generator, device=inputs.x.device)
    return inputs.x, noise, inputs.timestep[:, 0] / 1000, *inputs[2:]
