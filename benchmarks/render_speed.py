"""Measure how fast the procedural world draws and renders clips.

Run ``python benchmarks/render_speed.py`` (CPU) or with ``--device cuda``. Prints the device, the versions and frames
per second; the first call (on CUDA it compiles a kernel) is reported apart and not counted.
"""

from __future__ import annotations

import argparse
import platform
import time

import torch

from sana_wm.worlds.procedural import Renderer, draw, render_drawn


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samples", type=int, default=4, help="rays a pixel: 1, 2 or 4")
    parser.add_argument("--clips", type=int, default=0, help="clips in a batch; 0: 1 on a CPU, 32 elsewhere")
    parser.add_argument("--frames", type=int, default=0, help="frames of a clip; 0: 4 on a CPU, 81 elsewhere")
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    on_cpu = torch.device(args.device).type == "cpu"
    clips, frames = args.clips or (1 if on_cpu else 32), args.frames or (4 if on_cpu else 81)

    def wait() -> None:
        if not on_cpu:
            torch.cuda.synchronize()

    draw(0, frames)  # imports
    start = time.perf_counter()
    drawn = [draw(seed, frames) for seed in range(clips)]
    drawing = (time.perf_counter() - start) / clips
    renderer = Renderer(samples=args.samples)
    start = time.perf_counter()
    render_drawn(drawn, args.height, args.width, args.device, renderer)
    wait()
    first = time.perf_counter() - start
    times = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        render_drawn(drawn, args.height, args.width, args.device, renderer)
        wait()
        times.append(time.perf_counter() - start)
    device = platform.processor() or platform.machine() if on_cpu else torch.cuda.get_device_name()
    print(f"device {args.device} ({device}), torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    print(f"{clips} clips x {frames} frames, {args.height}x{args.width}, {args.samples} samples")
    print(f"drawing {drawing * 1e3:.2f} ms a clip; first render {first:.1f} s")
    print(f"rendering {clips * frames / min(times):.1f} frames/s (best of {args.repeats})")


if __name__ == "__main__":
    main()
