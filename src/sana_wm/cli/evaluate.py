"""`sana-wm evaluate`: measure a model, or videos of any method, on a benchmark, and write a report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sana_wm.cli.claims import claims
from sana_wm.cli.evaluate_flags import (
    MAKING,
    CfgScale,
    Device,
    Engine,
    EngineSet,
    ExecutorFlag,
    FloorScenes,
    FlowShift,
    Interval,
    IqWeights,
    LpipsFlag,
    MaxPairs,
    Metrics,
    Model,
    RefFps,
    Seed,
    SkipFirst,
    Step,
    VbenchDims,
    VbenchPython,
    VbenchWeights,
    WindowSec,
    Workers,
)
from sana_wm.cli.evaluate_rollout import rollout
from sana_wm.errors import InputError

if TYPE_CHECKING:
    from sana_wm.evaluation.bench.runner import ScenesDone
    from sana_wm.evaluation.bench.settings import GenerationSettings, MeasureSettings

SHORT = ("RotErr", "TransErr", "CamMC", "PSNR")
"""Columns that are told at the end of a run, where they were measured."""

evaluate = typer.Typer(help="Measure a model, or videos of any method, on a benchmark.", no_args_is_help=True)


evaluate.command("claims")(claims)
evaluate.command("rollout")(rollout)


@evaluate.command("nano-bench")
def nano_bench(
    bench_dir: Annotated[
        Path | None,
        typer.Option("--bench_dir", help="The benchmark; made if need be.", show_default="bench in the output"),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Folder for the results, one folder a model.")
    ] = Path("out/nano-bench"),
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Scenes of a split.")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of a path, at 16 frames a second.")] = 5.0,
    splits: Annotated[str, typer.Option("--splits", help="simple, hard or both, with a comma.")] = "simple",
    worlds: Annotated[
        str, typer.Option("--worlds", help="Where scenes come from: procedural,freedoom or one of them.")
    ] = "procedural,freedoom",
    bench_seed: Annotated[int, typer.Option("--bench_seed", min=0, help="Seed of the scenes and paths.")] = 0,
    model: Model = "nano",
    step: Step = None,
    cfg_scale: CfgScale = None,
    flow_shift: FlowShift = None,
    seed: Seed = 42,
    engine: Engine = "gt-pnp",
    engine_set: EngineSet = None,
    metrics: Metrics = "camera,truth,revisit,temporal,vbench",
    floor_scenes: FloorScenes = None,
    interval: Interval = 4,
    skip_first_frame: SkipFirst = "auto",
    max_pairs: MaxPairs = 5,
    ref_fps: RefFps = 16.0,
    window_sec: WindowSec = 10.0,
    lpips: LpipsFlag = "auto",
    iq_weights: IqWeights = None,
    vbench_python: VbenchPython = None,
    vbench_weights: VbenchWeights = None,
    vbench_dims: VbenchDims = None,
    device: Device = "auto",
    workers: Workers = 0,
    executor: ExecutorFlag = "local",
) -> None:
    """Make the synthetic benchmark with its true videos, run a model on it, and report.

    The same command goes on where an earlier one stopped; what other settings change is made anew.
    """
    flags = dict(locals())
    from sana_wm.evaluation.bench.make import make_nano_bench

    root = output_dir / "bench" if bench_dir is None else bench_dir
    chosen, from_worlds = _names(splits), _names(worlds)
    generation = _generation(flags)

    def prepare(progress: ScenesDone) -> None:
        """Make the benchmark, with both splits: a scene has the same world in them, so they come together."""
        make_nano_bench(
            root,
            scenes=scenes,
            seconds=seconds,
            seed=bench_seed,
            worlds=from_worlds,
            workers=workers,
            progress=lambda done: progress("bench", done, scenes),
        )

    _run(flags, root, chosen, output_dir / label(model), generation, prepare=prepare, floors=root / "floors")


@evaluate.command("bench")
def bench(
    benchmark: Annotated[Path, typer.Option("--benchmark", help="Root of a benchmark in the published layout.")],
    split: Annotated[str, typer.Option("--split", help="simple, hard or both, with a comma.")] = "simple",
    model: Annotated[
        str | None,
        typer.Option("--model", help="nano, a directory, or a hub id owner/repo.", rich_help_panel=MAKING),
    ] = None,
    method_dir: Annotated[
        Path | None, typer.Option("--method_dir", help="Instead of --model: the folder of a method's videos.")
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="With --model: folder for the results, one folder a model.")
    ] = Path("out/bench"),
    scenes: Annotated[
        str | None, typer.Option("--scenes", help="Ids with commas, or how many.", show_default="all")
    ] = None,
    step: Step = None,
    cfg_scale: CfgScale = None,
    flow_shift: FlowShift = None,
    seed: Seed = 42,
    engine: Engine = "pi3",
    engine_set: EngineSet = None,
    metrics: Metrics = "camera,truth,revisit,temporal,vbench",
    floor_scenes: FloorScenes = None,
    interval: Interval = 4,
    skip_first_frame: SkipFirst = "auto",
    max_pairs: MaxPairs = 5,
    ref_fps: RefFps = 16.0,
    window_sec: WindowSec = 10.0,
    lpips: LpipsFlag = "auto",
    iq_weights: IqWeights = None,
    vbench_python: VbenchPython = None,
    vbench_weights: VbenchWeights = None,
    vbench_dims: VbenchDims = None,
    device: Device = "auto",
    workers: Workers = 0,
    executor: ExecutorFlag = "local",
) -> None:
    """Run a model on a benchmark in the published layout, or measure videos that are there, and report.

    The same command goes on where an earlier one stopped; what other settings change is made anew.
    """
    flags = dict(locals())
    if (model is None) == (method_dir is None):
        found = "neither is given" if model is None else "both are given"
        raise InputError(f"the videos come from --model or from --method_dir, but {found}; give one of them.")
    generation = None if model is None else _generation(flags)
    method = method_dir if model is None else output_dir / label(model)
    assert method is not None
    _run(flags, benchmark, _names(split), method, generation, only=_scenes(scenes))


def label(model: str) -> str:
    """Name of the results folder of a model: the last part of a directory, or owner--repo."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve().name
    return model.removeprefix("hf://").replace("/", "--").replace("@", "--")


def _run(
    flags: Mapping[str, Any],
    root: Path,
    splits: tuple[str, ...],
    method: Path,
    generation: GenerationSettings | None,
    *,
    only: Sequence[str] | int | None = None,
    prepare: Callable[[ScenesDone], None] | None = None,
    floors: Path | None = None,
) -> None:
    """Check everything, prepare the benchmark, run it and say where the results are."""
    begin = time.perf_counter()
    from sana_wm.checkpoints.load import find_model
    from sana_wm.cli.count_bars import CountBars
    from sana_wm.engine.devices import choose_device
    from sana_wm.engine.staging import check_writable
    from sana_wm.evaluation.bench.runner import Workforce, run_benchmark

    device = choose_device(flags["device"])
    lpips, missing = _lpips(flags["lpips"])
    measures = _measures(flags, lpips)
    workforce = Workforce(device, flags["workers"], flags["executor"])
    if generation is not None:
        find_model(generation.model)
    check_writable(method, ["report.html", "summary.json", "summary.md"])
    with CountBars("scenes") as bars:
        if prepare is not None:
            prepare(bars)
        summary = run_benchmark(
            root, splits, method, measures,
            generation=generation, scenes=only, floors=floors, workforce=workforce, missing=missing, progress=bars,
        )  # fmt: skip
    for split, found in summary["splits"].items():
        typer.echo(_in_short(split, found["all"]))
    for name in ("report.html", "summary.md", "summary.json"):
        typer.echo(f"  {method / name}")
    typer.echo(f"{time.perf_counter() - begin:.1f} s in total")


def _in_short(split: str, group: Mapping[str, Any]) -> str:
    from sana_wm.evaluation.bench.columns import CAMERA_TABLE, OURS_TABLE

    columns = [c for c in (*CAMERA_TABLE.columns[:3], *OURS_TABLE.columns) if c.title in SHORT]
    known = [f"{c.title} {c.cell(group)}" for c in columns if c.value(group) is not None]
    return f"{split}: {group['scenes']} scenes, {group['failed']} failed; {', '.join(known)}"


def _generation(flags: Mapping[str, Any]) -> GenerationSettings:
    from sana_wm.evaluation.bench.settings import GenerationSettings

    return GenerationSettings(
        model=flags["model"],
        num_inference_steps=flags["step"],
        guidance_scale=flags["cfg_scale"],
        flow_shift=flags["flow_shift"],
        seed=flags["seed"],
    )


def _measures(flags: Mapping[str, Any], lpips: bool) -> MeasureSettings:
    from sana_wm.evaluation.bench.settings import MeasureSettings

    dims = flags["vbench_dims"]
    return MeasureSettings(
        engine=flags["engine"],
        engine_settings=_engine_settings(flags["engine_set"] or []),
        metrics=_names(flags["metrics"]),
        floor_scenes=flags["floor_scenes"],
        interval=flags["interval"],
        skip_first_frame=flags["skip_first_frame"],
        window_seconds=flags["window_sec"],
        max_pairs=flags["max_pairs"],
        ref_fps=flags["ref_fps"],
        lpips=lpips,
        iq_weights=flags["iq_weights"],
        vbench_python=flags["vbench_python"],
        vbench_weights=flags["vbench_weights"],
        **({} if dims is None else {"vbench_dims": _names(dims)}),
    )


def _lpips(wanted: str) -> tuple[bool, dict[str, str]]:
    """Whether LPIPS is measured, and if it is not, why."""
    from sana_wm.evaluation.perceptual import Lpips

    if wanted not in ("auto", "yes", "no"):
        raise InputError(f"--lpips is {wanted!r}; it must be auto, yes or no.")
    if wanted == "no":
        return False, {"LPIPS": "not asked for (--lpips no)"}
    try:
        Lpips()
    except InputError as error:
        if wanted == "yes":
            raise
        return False, {"LPIPS": str(error)}
    return True, {}


def _engine_settings(given: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; whole numbers and numbers are taken as such, everything else as text."""
    settings: dict[str, Any] = {}
    for entry in given:
        name, sign, value = entry.partition("=")
        if not sign or not name.isidentifier():
            raise InputError(f"--engine_set is {entry!r}; it must be NAME=VALUE, such as weights=/models/pi3.")
        settings[name] = _value(value)
    return settings


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _scenes(text: str | None) -> Sequence[str] | int | None:
    if text is None:
        return None
    return int(text) if text.strip().isdigit() else _names(text)
