"""How much of a clip does its first frame determine? A ceiling for following a path, without any model.

A painter that knows the exact depth, camera and lighting of a held-out procedural scene repaints frame t. Pixels whose
surface is in view in frame 0 it paints without any error; pixels whose surface is not, it has to guess, in two ways:

* ``extended``: colours of the nearest visible pixels, spread smoothly;
* ``blurred``: the truth itself, blurred with a Gaussian of 12 pixels, which no model can know.

An autoencoder then adds its own error, taken clip by clip from the file of marks. What is printed is what the marks
ask for: how far the painter stays below that autoencoder.

Run: ``python benchmarks/first_frame_ceiling.py --marks docs/nano/marks.json``
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sana_wm.evaluation.held_out import PROCEDURAL
from sana_wm.evaluation.marks import SPANS
from sana_wm.geometry.poses import relative_to_first
from sana_wm.worlds.procedural import Renderer, draw, render_drawn
from sana_wm.worlds.splits import split_seed

TIMES = (2, 5, 8, 11, 14, 20, 26, 32, 38, 44, 52, 60, 68, 76)
BLUR = 12.0  # pixels
REACHES = (2.0, 5.0, 12.0, 30.0)  # pixels, over which visible colours are spread, nearest first
SKY = 1e6  # metres
DEPTH_TOLERANCE = 0.05  # metres, and the same as a share of the depth


@dataclass(frozen=True)
class Painted:
    """One frame: the share of pixels in view in frame 0, and the squared error of the others, summed over the frame
    and divided by all pixels.
    """

    visible: float
    extended: float
    blurred: float


def visible_in_first(depth: Tensor, relative: Tensor, intrinsics: Tensor) -> Tensor:
    """Which pixels of the last frame show a surface that is in view in the first.

    Args:
        depth: (2, H, W) metres along z, inf for sky. relative: (4, 4), last camera in the first one's frame.
        intrinsics: (2, 4).

    Returns:
        (H, W) boolean.
    """
    height, width = depth.shape[1:]
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    first, last = depth.double().clamp(max=SKY)
    fx, fy, cx, cy = intrinsics[1].double()
    points = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)], -1) * last[..., None]
    points = points @ relative[:3, :3].double().T + relative[:3, 3].double()
    fx, fy, cx, cy = intrinsics[0].double()
    z = points[..., 2]
    u, v = points[..., 0] / z * fx + cx, points[..., 1] / z * fy + cy
    grid = torch.stack([(2 * u + 1) / width - 1, (2 * v + 1) / height - 1], -1)
    found = F.grid_sample(first[None, None], grid[None], mode="nearest", align_corners=False)[0, 0]
    same = (found - z).abs() < DEPTH_TOLERANCE * (1 + z)
    same |= (last >= SKY) & (found >= SKY)
    return same & (z > 0) & (grid.abs() <= 1).all(-1)


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """Blur (C, H, W); what lies outside counts as zero."""
    reach = int(2.5 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).expand(len(x), 1, 1, -1)
    across = F.conv2d(x[None], taps, padding=(0, reach), groups=len(x))
    return F.conv2d(across, taps.mT, padding=(reach, 0), groups=len(x))[0]


def extend(frame: Tensor, known: Tensor) -> Tensor:
    """Colours (3, H, W) for the pixels that are not `known` (H, W), from those that are."""
    keep = known.float()[None]
    filled = ((frame * keep).sum((1, 2), keepdim=True) / keep.sum().clamp_min(1)).expand_as(frame)
    for sigma in reversed(REACHES):
        weight = gaussian(keep, sigma)
        filled = torch.where(weight > 0.02, gaussian(frame * keep, sigma) / weight.clamp_min(1e-6), filled)
    return filled


def paint(frames: Tensor, depth: Tensor, relative: Tensor, intrinsics: Tensor) -> Painted:
    """Repaint the last of two frames (2, 3, H, W) in [0, 1] from the first; see :func:`visible_in_first`."""
    known = visible_in_first(depth, relative, intrinsics)
    truth, hidden = frames[1], ~known
    unknown = hidden.float()[None]
    blurred = gaussian(truth * unknown, BLUR) / gaussian(unknown, BLUR).clamp_min(1e-6)

    def error(guess: Tensor) -> float:
        return float(((guess - truth).square().mean(0) * unknown[0]).mean())

    return Painted(float(known.float().mean()), error(extend(truth, known)), error(blurred))


def below_autoencoder(hidden_error: float, visible: float, autoencoder_psnr: float) -> float:
    """Decibels that the painter loses, with the autoencoder's error everywhere it does not guess worse."""
    base = 10 ** (-autoencoder_psnr / 10)
    total = visible * base + max(hidden_error, (1 - visible) * base)
    return 10 * math.log10(total / base)


def main() -> None:
    """Parse the command line, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--marks", type=Path, required=True, help="marks.json of benchmarks/nano_marks.py")
    parser.add_argument("--scenes", type=int, help="the first so many procedural clips; all if left out")
    args = parser.parse_args()
    measured = json.loads(args.marks.read_text(encoding="utf-8"))
    settings = measured["settings"]
    scenes = [s for s in measured["scenes"] if s["world"] == PROCEDURAL][: args.scenes]
    height, width, split = settings["height"], settings["width"], settings["split"]
    rows: list[dict[int, Painted]] = []
    for scene in tqdm(scenes, desc="scenes"):
        drawn = draw(split_seed(split, int(scene["name"].split("/")[-1])), settings["num_frames"])
        drawn = replace(drawn, c2w=drawn.c2w[[0, *TIMES]])
        frames, c2w, intrinsics, depth = render_drawn([drawn], height, width, "cpu", Renderer(1), with_depth=True)
        assert depth is not None
        video, relative = frames[0].float() / 255, relative_to_first(c2w[0].double())
        pairs = {t: [0, i] for i, t in enumerate(TIMES, 1)}
        rows.append({t: paint(video[p], depth[0][p], relative[p[1]], intrinsics[0][p]) for t, p in pairs.items()})
    print(f"\n{len(scenes)} procedural clips, split {split}; torch {torch.__version__}\n")
    print("| frames | in view in frame 0 | below the autoencoder: extended | blurred truth | the model of the marks |")
    print("|---|---|---|---|---|")
    for first, last in SPANS[:3]:
        span = f"follow.{first}-{last}"
        losses: dict[str, list[float]] = {"extended": [], "blurred": []}
        for scene, row in zip(scenes, rows, strict=True):
            inside = [p for t, p in row.items() if first <= t <= last]
            psnr = scene["numbers"][f"{span}.autoencoder"]
            for guess, values in losses.items():
                values.append(statistics.fmean(below_autoencoder(getattr(p, guess), p.visible, psnr) for p in inside))
        seen = [p.visible for row in rows for t, p in row.items() if first <= t <= last]
        model = [s["numbers"][f"{span}.below_autoencoder"] for s in scenes]
        cells = [f"{statistics.fmean(v):.2f} ± {statistics.stdev(v):.2f} dB" for v in (*losses.values(), model)]
        print(f"| {first} to {last} | {100 * statistics.fmean(seen):.0f} % | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
