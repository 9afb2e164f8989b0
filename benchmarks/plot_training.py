"""Curves of a training run: `python benchmarks/plot_training.py runs/nano --out docs/images/nano_curves.png`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def read(path: Path, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of `key` from a stage's log.jsonl."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line["step"] for line in lines], [line[key] for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="directory with autoencoder/log.jsonl and world/log.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    left.plot(*read(arguments.run / "autoencoder" / "log.jsonl", "psnr"), lw=1)
    left.set(title="autoencoder: PSNR of training clips", xlabel="step", ylabel="dB")
    steps, losses = read(arguments.run / "world" / "log.jsonl", "loss")
    frames = read(arguments.run / "world" / "log.jsonl", "frames")[1]
    for length in sorted(set(frames)):
        points = [(s, loss) for s, loss, f in zip(steps, losses, frames, strict=True) if f == length]
        right.plot(*zip(*points, strict=True), "-" if len(points) > 20 else ".", lw=1, label=f"{length:.0f} frames")
    right.set(title="transformer: velocity loss", xlabel="step")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
