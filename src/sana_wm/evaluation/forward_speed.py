"""How long one forward pass of the transformer takes, what of it is what, how that compares with the plain twins and
with what the card could do at best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sana_wm.engine.replay import LAUNCH_BOUND, Replayed
from sana_wm.evaluation.forward_floor import H100, Peaks, compared, forward_work
from sana_wm.evaluation.speed import (
    CAPTION_TOKENS,
    Report,
    Shape,
    check,
    forward_inputs,
    header,
    over_shapes,
    random_model,
    timed,
)
from sana_wm.models.config import TRANSFORMERS
from sana_wm.models.context import BlockContext
from sana_wm.models.fp8 import check_fp8, to_fp8
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.ops.attention import attention_backend
from sana_wm.ops.dispatch import plain_only

KERNELS = 30
"""Kernels that are told one by one."""
PARTS = {
    "attention": ("flash", "fmha", "cudnn_generated", "sdpa", "attention"),
    "gated delta rule": ("_write_kernel", "_scan_kernel", "_read_kernel"),
    "features": ("_norm_kernel", "_transform_kernel", "_energy_kernel", "_rows_kernel"),
    "feed-forward middle": ("_glu_conv_kernel",),
    "norms, gates, residuals": ("_update_kernel", "_gate_kernel"),
    "products": ("gemm", "nvjet", "cutlass", "cublas", "splitk"),
}
"""Parts of a forward pass, by what the names of their kernels hold; the first that fits counts.

What is in none of them is "other". `forward_floor` counts the work of the same parts.
"""


def conditioned(model: SanaWMTransformer, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor, BlockContext]:
    """Noisy latents, timesteps, and the context of everything else."""
    given = forward_inputs(model, shape, device)
    return given.x, given.timestep, model.condition((shape.latent_frames, *shape.grid), *given[2:])


@torch.inference_mode()
def measure_forward(
    model: SanaWMTransformer, shape: Shape, *, runs: int, plain: bool, parts: bool, peaks: Peaks = H100
) -> dict[str, Any]:
    """Median and 90th percentile of `runs` passes in seconds, peak GB (with weights; None on a CPU).

    Of a short pass on a GPU also when it is recorded once and replayed, as the pipeline does.

    On a GPU with `parts` the device time of every part, and its floor on a card of these `peaks`; with `plain` the
    plain twins in the same run too, and how far the results are apart (relative RMS).
    """
    device = next(model.parameters()).device
    x, timestep, context = conditioned(model, shape, device)

    def forward() -> Tensor:
        return model.denoise(x, timestep, context)

    found = timed(forward, runs, device)
    config, tokens = model.config, shape.latent_frames * shape.grid[0] * shape.grid[1]
    heads = x.new_empty(()).expand(shape.batch, tokens, config.num_heads, config.head_dim)
    found["attention"] = attention_backend(heads, heads, None)
    if device.type == "cuda" and shape.batch * tokens * config.width <= LAUNCH_BOUND:
        replayed = Replayed(lambda latents, levels: model.denoise(latents, levels, context))
        found["replayed"] = timed(lambda: replayed(x, timestep), runs, device)
    if parts and device.type == "cuda":
        found["parts"], found["kernels"] = _parts(forward)
        size = (shape.latent_frames, *shape.grid)
        caption = min(CAPTION_TOKENS, config.caption_tokens)
        work = forward_work(config, size, batch=shape.batch, caption_tokens=caption, itemsize=model.dtype.itemsize)
        found["floor"] = compared(work, found["parts"], peaks)
    if plain and device.type == "cuda":  # elsewhere they are what ran
        with plain_only():
            slow = timed(forward, max(1, runs // 2), device)
            expected = forward().float()
        found["plain"] = slow
        found["speed_up"] = slow["seconds"] / found["seconds"]
        found["relative_rms"] = float((forward().float() - expected).norm() / expected.norm())
    return found


def bench_forward(
    preset: str,
    shapes: Sequence[Shape],
    device: torch.device,
    dtype: torch.dtype,
    *,
    runs: int = 5,
    plain: bool = True,
    parts: bool = True,
    fp8: bool = False,
    peaks: Peaks = H100,
    report: Report | None = None,
) -> dict[str, Any]:
    """All shapes one after another; a shape that does not fit into memory is told as such.

    With `fp8` a second time with products in eight bits, and how far velocities are then from those before.

    Raises:
        InputError: there is no such preset, a number is below 1, or the device does not multiply eight bits.
    """
    check(preset, shapes, runs)
    if fp8:
        check_fp8(device)
    model = random_model(TRANSFORMERS[preset], device, dtype)

    def measure(shape: Shape) -> dict[str, Any]:
        return measure_forward(model, shape, runs=runs, plain=plain, parts=parts, peaks=peaks)

    results = over_shapes(shapes, device, measure, report)
    found = {**header("forward speed", 3, preset, dtype, runs, device), "shapes": results}
    if not fp8:
        return found
    exact = {shape: one_velocity(model, shape) for shape in shapes}
    to_fp8(model)

    def measure_fp8(shape: Shape) -> dict[str, Any]:
        timing = measure_forward(model, shape, runs=runs, plain=False, parts=parts, peaks=peaks)
        return {**timing, "fp8": velocity_error(one_velocity(model, shape), exact[shape])}

    return {**found, "fp8": over_shapes(shapes, device, measure_fp8, report)}


@torch.inference_mode()
def one_velocity(model: SanaWMTransformer, shape: Shape) -> Tensor:
    """(B,C,T,H,W) float32 on the CPU."""
    x, timestep, context = conditioned(model, shape, next(model.parameters()).device)
    return model.denoise(x, timestep, context).float().cpu()


def velocity_error(found: Tensor, exact: Tensor) -> dict[str, float]:
    """How far velocities (B,C,T,H,W) are apart: relative RMS, and PSNR over latent frames, the mean and the worst.

    The peak is the range of the exact velocity.
    """
    squares = (found - exact).square().mean((1, 3, 4)).clamp_min(torch.finfo(torch.float32).tiny)
    psnr = 10 * torch.log10((exact.max() - exact.min()).square() / squares)
    return {
        "relative_rms": float((found - exact).norm() / exact.norm()),
        "psnr_mean_db": float(psnr.mean()),
        "psnr_worst_frame_db": float(psnr.min()),
    }


def _parts(work: Callable[[], Tensor]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of device time by part, and by kernel for the most expensive ones."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        work()
        torch.cuda.synchronize()
    times = dict.fromkeys((*PARTS, "other"), 0.0)
    kernels: dict[str, float] = {}
    for event in profiled.key_averages():
        seconds = event.self_device_time_total / 1e6
        part = next((part for part, words in PARTS.items() if any(w in event.key for w in words)), "other")
        times[part] += seconds
        kernels[f"{event.key[:100]} x{event.count}"] = seconds
    return times, dict(sorted(kernels.items(), key=lambda item: -item[1])[:KERNELS])
