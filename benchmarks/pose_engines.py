"""How well pose engines recover cameras that are known exactly, and what that costs.

On held-out clips of the procedural world and of Freedoom, every engine is given three videos of each clip: the true
render, that render after a round trip through an autoencoder (a model's pictures cannot be better), and, with
`--videos render,autoencoder,generated`, what a model makes of the first frame and the path. The errors of the first two
are the engines' own; those of the third are mostly the model's, so there the engines are also compared with each other.

Run: ``python benchmarks/pose_engines.py [--procedural 8] [--freedoom 4] [--out out/pose_engines.json]``; a minute:
``--frames 961 --procedural 1 --freedoom 0 --videos render``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sana_wm.checkpoints.components import Components
from sana_wm.checkpoints.load import load_components
from sana_wm.engine.stream_plan import plan_video
from sana_wm.errors import InputError
from sana_wm.evaluation.batched import round_trip
from sana_wm.evaluation.bench.camera import camera_numbers
from sana_wm.evaluation.engines import ENGINES, Recovered, TrueViews, make_engine
from sana_wm.evaluation.generate import generate
from sana_wm.evaluation.held_out import FREEDOOM, PROCEDURAL, HeldOut
from sana_wm.evaluation.nano_marks import environment
from sana_wm.evaluation.pose_error import path_length, pose_errors
from sana_wm.worlds.doom import DoomWorld
from sana_wm.worlds.procedural import Renderer, draw, render_drawn
from sana_wm.worlds.splits import split_seed

VIDEOS = ("render", "autoencoder", "generated")
SPLIT, SIZE = "test", (192, 320)
STILL_METRES = 0.5
"""A path shorter than this is mostly a turn; an error of centres is not compared with its length."""


@dataclass(frozen=True)
class Clip:
    """A clip with depth; frame i is that of time i * step of the path."""

    name: str
    world: str
    caption: str
    views: TrueViews
    step: int


def procedural_clips(count: int, num_frames: int, step: int) -> Iterator[Clip]:
    renderer = Renderer()
    for index in range(count):
        drawn = draw(split_seed(SPLIT, index), num_frames)
        seen = replace(drawn, c2w=np.ascontiguousarray(drawn.c2w[::step]))
        frames, c2w, intrinsics, depth = render_drawn([seen], *SIZE, "cpu", renderer, with_depth=True)
        assert depth is not None
        views = TrueViews(frames[0], depth[0], c2w[0], intrinsics[0])
        yield Clip(f"{PROCEDURAL}/{SPLIT}/{index:06d}", PROCEDURAL, drawn.caption, views, step)


def freedoom_clips(count: int, num_frames: int, step: int, seed: int) -> Iterator[Clip]:
    if not count:
        return
    with DoomWorld(*SIZE, split=SPLIT, seed=seed, clips_per_level=2) as world:
        rng = np.random.default_rng(seed)
        for _ in range(count):
            clip = world.clip(num_frames, rng, with_depth=True)
            assert clip.depth is not None
            views = TrueViews(clip.frames[::step], clip.depth[::step], clip.c2w[::step], clip.intrinsics[::step])
            yield Clip(clip.name, FREEDOOM, clip.caption, views, step)


def make_videos(clip: Clip, kinds: Sequence[str], components: Components | None, steps: int) -> dict[str, Tensor]:
    """The videos (F,3,H,W) of the clip, by kind."""
    views = clip.views
    videos = {"render": views.frames}
    if components is not None and "autoencoder" in kinds:
        videos["autoencoder"] = round_trip(components.codec, views.frames[None], 1)[0]
    if components is not None and "generated" in kinds:
        parts = (views.frames[None], views.c2w[None], views.intrinsics[None])
        held = HeldOut(*parts, [clip.caption], [clip.name], [clip.world], [])
        plan = plan_video(components.settings, steps)
        videos["generated"] = generate(components, held, held.captions, plan, batch=1)[0]
    return {kind: videos[kind] for kind in kinds}


def sampled(views: TrueViews, interval: int) -> TrueViews:
    return TrueViews(
        views.frames[::interval], views.depth[::interval], views.c2w[::interval], views.intrinsics[::interval]
    )


def recover(engine: str, truth: TrueViews, frames: Tensor) -> tuple[Recovered, dict[str, Any]]:
    """Poses of the frames, and their errors and cost ready for JSON; None where a number has no meaning."""
    begin = time.process_time()
    found = make_engine(engine, truth if engine == "gt-pnp" else None).estimate(frames, truth.intrinsics)
    cpu_seconds = time.process_time() - begin
    numbers = camera_numbers(truth.c2w, found, interval=1, skip_first=False)
    errors = numbers.get("release", {})
    length = path_length(truth.c2w)
    known = numbers["failed"] is None
    error = errors["trans_err"] if known else None
    off = (found.c2w - truth.c2w.double())[found.valid][:, :3, 3].norm(dim=1)
    return found, {
        "failed": numbers["failed"],
        "registered": found.registered,
        "rot_err": errors["rot_err"] if known else None,
        "trans_err": error,
        "trans_err_of_path": error / length if error is not None and length >= STILL_METRES else None,
        "trans_err_unaligned": float(off.mean()) if known and engine == "gt-pnp" else None,
        "cpu_seconds": cpu_seconds,
    }


def disagreement(first: Recovered, second: Recovered) -> float | None:
    """Degrees between the poses that two engines found, None where there are too few of both."""
    both = first.valid & second.valid
    if int(both.sum()) < 2:
        return None
    return pose_errors(first.c2w[both], second.c2w[both]).rot_err


def mean(values: Sequence[float | None]) -> tuple[float, int]:
    """Mean of the numbers there are, and how many these are."""
    known = [value for value in values if value is not None]
    return (sum(known) / len(known) if known else math.nan), len(known)


def table(rows: Sequence[dict[str, Any]], engines: Sequence[str], kinds: Sequence[str]) -> str:
    """Means in Markdown, by world, kind of video and engine."""
    lines = [
        "| world | video | engine | clips | failed | frames with a pose | RotErr, deg | TransErr, m | of the path | "
        "TransErr in the engine's own frame, m | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for world in dict.fromkeys(row["world"] for row in rows):
        for kind in kinds:
            for engine in engines:
                numbers = [row["videos"][kind][engine] for row in rows if row["world"] == world]
                failed = sum(n["failed"] is not None for n in numbers)
                share, moving = mean([n["trans_err_of_path"] for n in numbers])
                own, _ = mean([n["trans_err_unaligned"] for n in numbers])
                columns = [
                    world, kind, engine, str(len(numbers)), str(failed),
                    f"{mean([n['registered'] for n in numbers])[0]:.1%}",
                    f"{mean([n['rot_err'] for n in numbers])[0]:.3f}",
                    f"{mean([n['trans_err'] for n in numbers])[0]:.4f}",
                    f"{share:.2%} ({moving} clips)" if moving else "",
                    "" if math.isnan(own) else f"{own:.4f}",
                    f"{mean([n['cpu_seconds'] for n in numbers])[0]:.1f}",
                ]  # fmt: skip
                lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> None:
    """Make the videos, recover, write, print."""
    kinds, engines = arguments.videos.split(","), arguments.engines.split(",")
    for name, values, known in (("videos", kinds, VIDEOS), ("engines", engines, ENGINES)):
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"--{name} has {unknown[0]!r}; it must name some of {', '.join(known)}.")
    for name in ("frames", "interval"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name} is {getattr(arguments, name)}; it must be at least 1.")
    whole = set(kinds) != {"render"}  # the autoencoder and the model need every frame
    components = load_components(arguments.model) if whole else None
    step = 1 if whole else arguments.interval
    rows: list[dict[str, Any]] = []
    sources = (
        procedural_clips(arguments.procedural, arguments.frames, step),
        freedoom_clips(arguments.freedoom, arguments.frames, step, arguments.seed),
    )
    for clip in (clip for source in sources for clip in source):
        videos = make_videos(clip, kinds, components, arguments.steps)
        interval = arguments.interval // clip.step
        truth = sampled(clip.views, interval)
        row: dict[str, Any] = {
            "name": clip.name, "world": clip.world, "frames": len(truth.frames),
            "path_metres": path_length(truth.c2w), "videos": {}, "disagreement_deg": {},
        }  # fmt: skip
        for kind, video in videos.items():
            found = {engine: recover(engine, truth, video[::interval]) for engine in engines}
            row["videos"][kind] = {engine: numbers for engine, (_, numbers) in found.items()}
            if len(engines) == 2:
                row["disagreement_deg"][kind] = disagreement(*(poses for poses, _ in found.values()))
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    if not rows:
        raise InputError("--procedural and --freedoom are 0; at least one clip is needed.")
    device = torch.device("cpu")
    settings = {name: value for name, value in vars(arguments).items() if name != "out"}
    result = {"format": "sana-wm pose engines", "version": 1, "environment": environment(device), "settings": settings}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**result, "clips": rows}, indent=1) + "\n", encoding="utf-8")
    print(table(rows, engines, kinds))
    for kind in kinds if len(engines) == 2 else ():
        degrees, count = mean([row["disagreement_deg"][kind] for row in rows])
        print(f"\n{kind}: {engines[0]} and {engines[1]} differ by {degrees:.2f} degrees ({count} clips)")
    still = [row["name"] for row in rows if row["path_metres"] < STILL_METRES]
    if still:
        print(f"\nshorter than {STILL_METRES} m, so without a share of the path: {', '.join(still)}")


def main() -> None:
    """Parse, run; wrong input ends with a sentence and status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="gt-pnp,pycolmap", help="some of " + ", ".join(ENGINES))
    parser.add_argument("--videos", default="render,autoencoder", help="some of " + ", ".join(VIDEOS))
    parser.add_argument("--procedural", type=int, default=8, help="procedural test clips")
    parser.add_argument("--freedoom", type=int, default=4, help="Freedoom test clips; their depth is coarse")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--interval", type=int, default=4, help="frames from one pose to the next")
    parser.add_argument("--model", default="nano", help="whose autoencoder, and who generates")
    parser.add_argument("--steps", type=int, default=16, help="sampling steps of generated videos")
    parser.add_argument("--seed", type=int, default=0, help="of the walks through Freedoom")
    parser.add_argument("--out", type=Path, default=Path("out/pose_engines.json"))
    logging.basicConfig(level=logging.WARNING)
    try:
        run(parser.parse_args())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
