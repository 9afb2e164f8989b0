"""What measurements of speed share: sizes, a model of random weights, inputs, the clock, and going on when memory ends.

The weights are random: no value of theirs changes the work.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.nano_marks import environment
from sana_wm.geometry.actions import rollout
from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.models.config import TRANSFORMERS, TransformerConfig
from sana_wm.models.transformer import SanaWMTransformer

GRIDS = {"2.6b": (22, 40), "nano": (12, 20)}
"""Latent rows and columns at a preset's usual picture size."""
WARM_UPS = 2
CAPTION_TOKENS = 180
"""Valid tokens of the caption, as of a usual prompt."""

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Shape:
    """latent_frames T, grid (H, W), batch."""

    latent_frames: int
    grid: tuple[int, int]
    batch: int


class ForwardInputs(NamedTuple):
    """Arguments of a forward pass, in its order."""

    x: Tensor
    timestep: Tensor
    y: Tensor
    mask: Tensor
    camera_conditions: Tensor
    chunk_plucker: Tensor


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


def forward_inputs(model: SanaWMTransformer, shape: Shape, device: torch.device) -> ForwardInputs:
    """Noisy latents, timesteps with a clean first frame, a caption, and a camera that walks and turns."""
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
    return ForwardInputs(x, timestep, y, mask, views, maps)


def timed(work: Callable[[], Tensor], runs: int, device: torch.device, warm_ups: int = WARM_UPS) -> dict[str, Any]:
    """Seconds of the first pass, and of `runs` after `warm_ups` their median and 90th percentile; peak memory in GB.

    Raises:
        ArithmeticError: what the work returns is not finite.
    """
    cuda = device.type == "cuda"
    times = []
    with torch.cuda.device(device) if cuda else nullcontext():
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(warm_ups + runs):
            begin = time.perf_counter()
            out = work()
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
            if not bool(torch.isfinite(out).all()):
                raise ArithmeticError("what was timed gave numbers that are not finite")
        peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
    measured = sorted(times[warm_ups:])
    return {
        "first_seconds": times[0],
        "seconds": statistics.median(measured),
        "p90_seconds": measured[min(len(measured) - 1, int(0.9 * len(measured)))],
        "peak_gb": peak,
    }


def unless_memory_ends(work: Callable[[], dict[str, Any]], device: torch.device) -> dict[str, Any]:
    """What the work finds, or that it does not fit into the device's memory, which is then free for what follows."""
    try:
        found = work()
    except RuntimeError as error:
        if not _memory_ended(error):
            raise
        found = {"out_of_memory": True}
    if device.type == "cuda":
        gc.collect()  # a graph that was left halfway may hold itself
        torch.cuda.empty_cache()
    return found


def _memory_ended(error: RuntimeError) -> bool:
    """Libraries that ask the driver themselves say so in words of their own."""
    words = ("out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def over_shapes(
    shapes: Sequence[Shape],
    device: torch.device,
    measure: Callable[[Shape], dict[str, Any]],
    report: Report | None = None,
) -> list[dict[str, Any]]:
    """What is measured of all shapes, one after another; a shape that does not fit into memory is told as such."""
    results = []
    for shape in shapes:

        def work(shape: Shape = shape) -> dict[str, Any]:
            return measure(shape)

        found = {**asdict(shape), **unless_memory_ends(work, device)}
        results.append(found)
        if report is not None:
            report(found)
    return results


def check(preset: str, shapes: Sequence[Shape], runs: int) -> None:
    """Raises:
    InputError: there is no such preset, or a number is below 1.
    """
    if preset not in TRANSFORMERS:
        raise InputError(f"preset is {preset!r}; it must be one of {', '.join(TRANSFORMERS)}.")
    for name, least in (("runs", runs), *((f, getattr(s, f)) for s in shapes for f in ("latent_frames", "batch"))):
        if least < 1:
            raise InputError(f"{name} is {least}; it must be at least 1.")


def header(name: str, version: int, preset: str, dtype: torch.dtype, runs: int, device: torch.device) -> dict[str, Any]:
    """How every file of measurements begins: what was measured, where, by which versions."""
    return {
        "format": f"sana-wm {name}", "version": version, "environment": environment(device), "preset": preset,
        "dtype": str(dtype).removeprefix("torch."), "runs": runs, "threads": torch.get_num_threads(),
    }  # fmt: skip
