"""The flags that both verbs of `sana-wm evaluate` have; names follow the release where it has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MAKING, MEASURING, RUNNING = "Making the videos", "Measuring", "Running"
MODELS_OWN = "the model's"

Model = Annotated[
    str, typer.Option("--model", help="nano, a directory, or a hub id owner/repo.", rich_help_panel=MAKING)
]
Step = Annotated[
    int | None,
    typer.Option("--step", help="Denoising steps.", show_default=MODELS_OWN, rich_help_panel=MAKING),
]
CfgScale = Annotated[
    float | None,
    typer.Option("--cfg_scale", help="Text guidance; 1 is none.", show_default=MODELS_OWN, rich_help_panel=MAKING),
]
FlowShift = Annotated[
    float | None,
    typer.Option("--flow_shift", help="Shift of the noise levels.", show_default=MODELS_OWN, rich_help_panel=MAKING),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the noise of every scene.", rich_help_panel=MAKING)]
Engine = Annotated[
    str,
    typer.Option("--engine", help="What recovers poses: gt-pnp, pycolmap, pi3, pi3x, vipe.", rich_help_panel=MEASURING),
]
EngineSet = Annotated[
    list[str] | None,
    typer.Option("--engine_set", help="A setting of the engine, NAME=VALUE; repeatable.", rich_help_panel=MEASURING),
]
Metrics = Annotated[
    str,
    typer.Option("--metrics", help="Some of camera,truth,revisit,temporal,vbench.", rich_help_panel=MEASURING),
]
FloorScenes = Annotated[
    int | None,
    typer.Option(
        "--floor_scenes",
        help="Scenes of a split whose floors are measured, from all categories in turn.",
        show_default="all",
        rich_help_panel=MEASURING,
    ),
]
Interval = Annotated[int, typer.Option("--interval", help="Frames between recovered poses.", rich_help_panel=MEASURING)]
SkipFirst = Annotated[
    str,
    typer.Option(
        "--skip_first_frame",
        help="Leave out frame 0: yes, no, or auto (if method_info.json names a refiner, which copies it).",
        rich_help_panel=MEASURING,
    ),
]
MaxPairs = Annotated[int, typer.Option("--max_pairs", help="Revisit pairs scored a scene.", rich_help_panel=MEASURING)]
RefFps = Annotated[float, typer.Option("--ref_fps", help="Rate that pairs count frames at.", rich_help_panel=MEASURING)]
WindowSec = Annotated[
    float, typer.Option("--window_sec", help="Seconds of a window of quality over time.", rich_help_panel=MEASURING)
]
LpipsFlag = Annotated[
    str,
    typer.Option("--lpips", help="yes, no, or auto (if the package and its weights are there).",
                 rich_help_panel=MEASURING),
]  # fmt: skip
IqWeights = Annotated[
    Path | None,
    typer.Option("--iq_weights", help="MUSIQ checkpoint for imaging quality.", rich_help_panel=MEASURING),
]
VbenchPython = Annotated[
    Path | None,
    typer.Option("--vbench_python", help="Python of an environment with VBench.", rich_help_panel=MEASURING),
]
VbenchWeights = Annotated[
    Path | None, typer.Option("--vbench_weights", help="VBench's cache folder.", rich_help_panel=MEASURING)
]
VbenchDims = Annotated[
    str | None,
    typer.Option("--vbench_dims", help="Dimensions, with commas.", show_default="all nine", rich_help_panel=MEASURING),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", rich_help_panel=RUNNING)]
Workers = Annotated[
    int,
    typer.Option("--workers", help="Processes (or Ray tasks) at a time; 0 is this one alone.", rich_help_panel=RUNNING),
]
ExecutorFlag = Annotated[str, typer.Option("--executor", help="local or ray.", rich_help_panel=RUNNING)]
