"""How long a training step takes, and where the time goes.

Runs steps of one stage of a recipe on clips of noise (their content does not change the work) and prints milliseconds
a step, memory and, with ``--profile``, the kernels that took longest. Drawing and rendering of scenes are left out;
``render_speed.py`` measures them.

Run: ``python benchmarks/train_step.py --device cuda [--stage autoencoder] [--profile] [--set world.optimizer.lr=...]``
Distillation: ``--recipe nano-ode`` or ``--recipe nano-forcing`` (its median is a step of the critic alone).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch

from sana_wm.checkpoints.load import find_model
from sana_wm.training.autoencoder import AutoencoderStage
from sana_wm.training.distill_recipe import DistillRecipe, load_any_recipe
from sana_wm.training.ode import OdeStage
from sana_wm.training.progress import Stage
from sana_wm.training.recipe import Recipe
from sana_wm.training.scores import Score
from sana_wm.training.self_forcing import SelfForcingStage
from sana_wm.training.sources import ClipBatch, ClipSource
from sana_wm.training.start import load_start, load_trained
from sana_wm.training.world import WorldStage
from sana_wm.worlds.paths import random_paths


class NoiseClips:
    """Clips of noise along random paths, always the same ones: what a stage needs of a `ClipSource`."""

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        self.height, self.width, self.device = height, width, device

    def batches(self, stream: str, start: int, size: int, num_frames: int) -> Iterator[ClipBatch]:
        del stream, start
        generator = torch.Generator().manual_seed(0)
        shape = (size, num_frames, 3, self.height, self.width)
        frames = torch.randint(256, shape, dtype=torch.uint8, device=self.device)
        lens = torch.tensor([0.7 * self.width, 0.7 * self.width, (self.width - 1) / 2, (self.height - 1) / 2])
        c2w = random_paths(size, num_frames, generator).to(self.device)
        intrinsics = lens.expand(size, num_frames, 4).to(self.device)
        while True:
            yield ClipBatch(frames, c2w, intrinsics, ["noise in every direction"] * size)


def build(name: str, recipe: Recipe | DistillRecipe, device: torch.device) -> Stage:
    """The stage as training would build it, from the shipped weights."""
    source = cast(ClipSource, NoiseClips(recipe.data.height, recipe.data.width, device))
    if isinstance(recipe, DistillRecipe):
        start = load_trained(str(find_model("nano")))
        codec, text, student = start.codec.to(device), start.text.to(device), start.transformer.to(device)
        teacher = Score(student.requires_grad_(False), text.requires_grad_(False), recipe.size)
        kind = OdeStage if recipe.ode is not None else SelfForcingStage
        return kind(recipe, source, codec, student, text, teacher, device=device)
    if name == "autoencoder":
        return AutoencoderStage(recipe.autoencoder, source, seed=0, device=device)
    start = load_start(str(find_model("nano")), recipe)
    size = (recipe.data.height, recipe.data.width)
    return WorldStage(recipe.world, source, start.codec.to(device), size=size, seed=0, device=device, start=start)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="nano")
    parser.add_argument("--stage", default="world", choices=("world", "autoencoder"), help="of a recipe with both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    parser.add_argument("--warmup", type=int, default=4, help="steps before; on a GPU they compile")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of sana-wm train")
    parser.add_argument("--profile", action="store_true", help="print the kernels of five steps")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.set_float32_matmul_precision("high")
    stage = build(args.stage, load_any_recipe(args.recipe, args.set), device)

    def take(step: int) -> float:
        start = time.perf_counter()
        stage.step(step)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    started = time.perf_counter()
    for step in range(args.warmup):
        take(step)
    warm = time.perf_counter() - started
    times = sorted(take(args.warmup + i) for i in range(args.steps))
    figures = {
        "stage": stage.name,
        "settings": args.set,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor(),
        "torch": torch.__version__,
        "first_steps_s": warm,
        "median_ms": statistics.median(times),
        "p90_ms": times[int(0.9 * (len(times) - 1))],
        "mean_ms": statistics.fmean(times),
        "steps": args.steps,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None,
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    print(json.dumps(figures))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if args.profile:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as profile:
            for i in range(5):
                take(args.warmup + args.steps + i)
        sort = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        print(profile.key_averages().table(sort_by=sort, row_limit=60, max_name_column_width=110))


if __name__ == "__main__":
    main()
