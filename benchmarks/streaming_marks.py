"""Measure what streaming costs: whole clips against chunk after chunk against a student's few steps.

Every way makes the same held-out clips from the same first frames, cameras, captions and noise; PSNR is against the
true render. Writes streaming.json and a contact sheet to --out and prints a Markdown table.

Run: ``python benchmarks/streaming_marks.py --causal runs/nano-causal/model --student runs/nano-ode/model
runs/nano-forcing/model --device cuda --scenes 64``
Without vizdoom: ``--worlds procedural``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import torch

from sana_wm.checkpoints.components import Components
from sana_wm.checkpoints.load import load_components
from sana_wm.cli.bars import Bars
from sana_wm.engine.devices import choose_device
from sana_wm.errors import InputError
from sana_wm.evaluation.held_out import WORLDS
from sana_wm.evaluation.streaming_marks import (
    Mode,
    chunk_modes,
    markdown,
    measure_modes,
    student_modes,
    whole_mode,
)


def run(arguments: argparse.Namespace) -> None:
    """Load, measure, write, print."""
    device = choose_device(arguments.device)
    models: dict[str, Components] = {}

    def load(name: str) -> Components:
        if name not in models:
            # The weights stay float32 and run under autocast on CUDA, as in training.
            models[name] = load_components(name, device=device, dtype=torch.float32)
        return models[name]

    modes: list[Mode] = [whole_mode(arguments.whole, load(arguments.whole))]
    for name in arguments.causal:
        found = chunk_modes(name, load(name), arguments.steps)
        modes += [replace(mode, name=f"{name}: {mode.name}") for mode in found]
    for name in arguments.student:
        modes += [replace(mode, name=f"{name}: {mode.name}") for mode in student_modes(name, load(name))]
    arguments.out.mkdir(parents=True, exist_ok=True)
    worlds = arguments.worlds.split(",")
    counts = {world: len(range(i, arguments.scenes, len(worlds))) for i, world in enumerate(worlds)}
    batch = arguments.batch or (32 if device.type == "cuda" else 2)
    with Bars() as bars:
        result = measure_modes(
            modes, models, device,
            counts=counts, split=arguments.split, num_frames=arguments.frames, batch=batch,
            workers=arguments.workers, seed=arguments.seed, out=arguments.out, progress=bars,
        )  # fmt: skip
    path = arguments.out / "streaming.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(markdown(result))


def main() -> None:
    """Parse the command line and run; wrong input is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", default="runs/nano/model", help="sees whole clips; others are compared to it")
    parser.add_argument("--causal", nargs="*", default=[], help="models that see in chunks")
    parser.add_argument("--student", nargs="*", default=[], help="distilled models")
    parser.add_argument("--steps", type=int, default=16, help="Euler steps a chunk of the models that see in chunks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--scenes", type=int, default=64, help="held-out clips, spread over the worlds")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--frames", type=int, default=81, help="frames of a clip, 8k + 1")
    parser.add_argument("--batch", type=int, help="clips at a time; 32 on CUDA, 2 on a CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that walk through Freedoom")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the Freedoom walks")
    parser.add_argument("--out", type=Path, default=Path("out/streaming"))
    logging.basicConfig(format="%(levelname)s %(message)s")
    try:
        run(parser.parse_args())
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
