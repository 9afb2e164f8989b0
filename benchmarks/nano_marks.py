"""Measure a model directory against the marks of nano, on held-out scenes.

Parts: `ae` (autoencoder PSNR), `follow` (81 frames from the true first frame along the true path, against the true
render, the autoencoder's reconstruction of it and the repeated first frame), `control` (true against mirrored path),
`text` (the same with prompts shuffled between scenes), `minute` (961 frames). Writes marks.json and contact sheets to
--out and prints Markdown tables.

Run: ``python benchmarks/nano_marks.py [--model nano] [--device cuda] [--scenes 64] [--out out/marks]``
Without vizdoom: ``--worlds procedural``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

from sana_wm.checkpoints.load import load_components
from sana_wm.cli.bars import Bars
from sana_wm.engine.devices import choose_device, choose_dtype
from sana_wm.errors import InputError
from sana_wm.evaluation.held_out import WORLDS
from sana_wm.evaluation.marks import markdown
from sana_wm.evaluation.minute import MINUTE_FRAMES
from sana_wm.evaluation.nano_marks import NUM_FRAMES, PARTS, measure


def run(arguments: argparse.Namespace) -> None:
    """Load, measure, write, print."""
    begin = time.perf_counter()
    device = choose_device(arguments.device)
    # Left as they are, the weights are float32 and run under autocast on CUDA, as in training.
    components = load_components(arguments.model, device=device, dtype=choose_dtype(arguments.dtype, device))
    arguments.out.mkdir(parents=True, exist_ok=True)
    workers = arguments.workers if arguments.workers is not None else 4 if device.type == "cuda" else 0
    with Bars() as bars:
        result = measure(
            components,
            device,
            scenes=arguments.scenes,
            split=arguments.split,
            worlds=arguments.worlds.split(","),
            parts=arguments.parts.split(","),
            num_inference_steps=arguments.steps,
            num_frames=arguments.frames,
            minute_frames=arguments.minute_frames,
            batch=arguments.batch,
            workers=workers,
            seed=arguments.seed,
            out=arguments.out,
            progress=bars,
        )
    result["settings"]["model"] = arguments.model
    result["seconds"]["all"] = round(time.perf_counter() - begin, 2)
    path = arguments.out / "marks.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(markdown(result))


def main() -> None:
    """Parse the command line and run; wrong input is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="nano, a model directory or a hub id")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--dtype", default="float32", help="weights of the transformer: float32 or bfloat16")
    parser.add_argument("--scenes", type=int, default=64, help="held-out clips, spread over the worlds")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--steps", type=int, help="sampling steps; the model's own if left out")
    parser.add_argument("--frames", type=int, default=NUM_FRAMES, help="frames of a clip, 8k + 1")
    parser.add_argument("--minute_frames", type=int, default=MINUTE_FRAMES)
    parser.add_argument("--batch", type=int, help="clips at a time; 32 on CUDA, 2 on a CPU")
    parser.add_argument("--workers", type=int, help="processes that walk through Freedoom; 4 on CUDA, none on a CPU")
    parser.add_argument("--seed", type=int, default=0, help="of the noise, the shuffling and the Freedoom walks")
    parser.add_argument("--out", type=Path, default=Path("out/marks"))
    logging.basicConfig(format="%(levelname)s %(message)s")
    try:
        run(parser.parse_args())
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
