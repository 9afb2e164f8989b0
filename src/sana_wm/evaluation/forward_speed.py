"""How long one forward pass of the transformer takes, what of it is what, and how that compares with the plain twins.

The weights are random: no value of theirs changes the work.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.nano_marks import environment
from sana_wm.geometry.actions import rollout
from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.models.config import TRANSFORMERS, TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.ops.dispatch import plain_only

GRIDS = {"2.6b": (22, 40), "nano": (12, 20)}
"""Latent rows and columns at a preset's usual picture size."""
WARM_UPS = 2
CAPTION_TOKENS = 180
"""Valid tokens of the caption, as of a usual prompt."""

KERNELS = 30
"""Kernels that are told one by one."""
PARTS = {
    "attention": ("flash", "fmha", "cudnn_generated", "sdpa", "attention"),
    "gated delta rule": ("_write_kernel", "_scan_kernel", "_read_kernel"),
    "features": ("_norm_kernel", "_transform_kernel", "_energy_kernel"),
    "feed-forward middle": ("_glu_conv_kernel",),
    "norms, gates, residuals": ("_update_kernel", "_gate_kernel"),
    "products": ("gemm", "nvjet", "cutlass", "cublas", "splitk"),
}
"""Parts of a forward pass, by what the names of their kernels hold; the first that fits counts."""


@dataclass(frozen=True)
class Shape:
    """latent_frames T, grid (H, W), batch."""

    latent_frames: int
    grid: tuple[int, int]
    batch: int


@torch.no_grad()
def random_model(
    config: TransformerConfig, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> SanaWMTransformer:
    """Weights of unit gain, drawn on the device: the largest preset is there in seconds."""
    with torch.device("meta"):
        model = SanaWMTransformer(config)
    model = model.to(dtype).to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight") or "norm_cam" in name:
            parameter.fill_(1.0)
        elif parameter.ndim == 1:
            parameter.zero_()
        else:
            fan = parameter[0].numel()
            parameter.normal_(0, fan**-0.5, generator=generator)
    for buffer in model.buffers():
        buffer.zero_()
    return model


def conditioned(
    model: SanaWMTransformer, shape: Shape, device: torch.device
) -> tuple[Tensor, Tensor, BlockContext]:
    """Noisy latents, timesteps with a clean first frame, and the context of a camera that walks and turns."""
    config, (rows, columns) = model.config, shape.grid
    stride = config.temporal_stride
    frames = stride * (shape.latent_frames - 1) + 1
    c2w = rollout([("w", "d")] * (frames - 1))[None].to(device)
    size = (16 * rows, 16 * columns)
    lens = torch.tensor([0.7 * size[1], 0.7 * size[1], size[1] / 2, size[0] / 2], device=device).expand(1, frames, 4)
    cameras = (c2w, lens, size, shape.grid, stride)
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(device, model.dtype)

    batch = shape.batch
    x = draw(batch, config.in_channels, shape.latent_frames, rows, columns)
    y = draw(batch, 1, config.caption_tokens, config.caption_channels)
    mask = (torch.arange(config.caption_tokens, device=device) < CAPTION_TOKENS).float().expand(batch, -1)
    timestep = torch.full((batch, 1, shape.latent_frames), 500.0, device=device)
    timestep[:, :, 0] = 0
    one = camera_conditions(*cameras), chunk_plucker(*cameras)
    views, maps = (part.expand(batch, *part.shape[1:]) for part in one)
    return x, timestep, model.condition((shape.latent_frames, rows, columns), y, mask, views, maps)


@torch.inference_mode()
def measure_forward(model: SanaWMTransformer, shape: Shape, *, runs: int, plain: bool, parts: bool) -> dict[str, Any]:
    """Median and 90th percentile of `runs` passes in seconds, peak GB (with weights; None on a CPU), times of parts.

    With `plain`, on a GPU the plain twins in the same run too, and how far the results are apart (relative RMS).
    """
    device = next(model.parameters()).device
    x, timestep, context = conditioned(model, shape, device)

    def forward() -> Tensor:
        return model.denoise(x, timestep, context)

    found: dict[str, Any] = {**asdict(shape), **_timed(forward, runs, device)}
    if parts and device.type == "cuda":
        found["parts"], found["kernels"] = _parts(forward)
    if plain and device.type == "cuda":  # elsewhere they are what ran
        with plain_only():
            slow = _timed(forward, max(1, runs // 2), device)
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
    report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """All shapes one after another; a shape that does not fit into memory is told as such.

    Raises:
        InputError: there is no such preset, or a number is below 1.
    """
    if preset not in TRANSFORMERS:
        raise InputError(f"preset is {preset!r}; it must be one of {', '.join(TRANSFORMERS)}.")
    for name, least in (("runs", runs), *((f, getattr(s, f)) for s in shapes for f in ("latent_frames", "batch"))):
        if least < 1:
            raise InputError(f"{name} is {least}; it must be at least 1.")
    model = random_model(TRANSFORMERS[preset], device, dtype)
    results = []
    for shape in shapes:
        try:
            found = measure_forward(model, shape, runs=runs, plain=plain, parts=parts)
        except torch.OutOfMemoryError:
            found = {**asdict(shape), "out_of_memory": True}
        if device.type == "cuda":
            torch.cuda.empty_cache()
        results.append(found)
        if report is not None:
            report(found)
    return {
        "format": "sana-wm forward speed", "version": 1, "environment": environment(device), "preset": preset,
        "dtype": str(dtype).removeprefix("torch."), "runs": runs, "threads": torch.get_num_threads(), "shapes": results,
    }  # fmt: skip


def _timed(work: Callable[[], Tensor], runs: int, device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    times = []
    with torch.cuda.device(device) if cuda else nullcontext():
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(WARM_UPS + runs):
            begin = time.perf_counter()
            out = work()
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
            if not bool(torch.isfinite(out).all()):
                raise ArithmeticError("the forward pass gave numbers that are not finite")
        peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
    measured = sorted(times[WARM_UPS:])
    return {
        "first_seconds": times[0],
        "seconds": statistics.median(measured),
        "p90_seconds": measured[min(len(measured) - 1, int(0.9 * len(measured)))],
        "peak_gb": peak,
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
