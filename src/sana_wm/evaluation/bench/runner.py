"""A benchmark run from beginning to end: videos, measurements, tables, report. What is done already is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from sana_wm.checkpoints.load import find_model
from sana_wm.errors import InputError
from sana_wm.evaluation.bench.conclude import conclude
from sana_wm.evaluation.bench.dataset import BenchScene, read_benchmark
from sana_wm.evaluation.bench.files import split_name
from sana_wm.evaluation.bench.fingerprint import file_sha256, model_print
from sana_wm.evaluation.bench.folder import MethodFolder, read_ours, write_json
from sana_wm.evaluation.bench.jobs import Crew, Done, Job
from sana_wm.evaluation.bench.listing import choose
from sana_wm.evaluation.bench.local_crew import Processes, ThisProcess
from sana_wm.evaluation.bench.measure import is_measured, write_failure
from sana_wm.evaluation.bench.plan import Plan
from sana_wm.evaluation.bench.ray_crew import RayTasks
from sana_wm.evaluation.bench.settings import CAMERA, TEMPORAL, GenerationSettings, MeasureSettings
from sana_wm.evaluation.bench.tools import ENGINES_WITH_TRUTH
from sana_wm.evaluation.bench.truth import has_truth
from sana_wm.evaluation.bench.video_file import VideoFile
from sana_wm.evaluation.bench.videos import has_video, method_info
from sana_wm.evaluation.engines import TrueViews, make_engine

Executor = Literal["local", "ray"]
ScenesDone = Callable[[str, float, int], None]
"""(stage, scenes done, scenes in all): called at 0 and as work goes on."""


@dataclass(frozen=True)
class Workforce:
    """Who does the work. workers: 0 is this process alone; with Ray, one task for each GPU or machine."""

    device: torch.device
    workers: int = 0
    executor: Executor = "local"

    def __post_init__(self) -> None:
        if self.workers < 0 or self.executor not in ("local", "ray"):
            raise InputError(
                f"workers is {self.workers} and executor {self.executor!r}; workers must be at least 0, executor "
                "'local' or 'ray'."
            )

    def crew(self, plan: Plan) -> Crew:
        if self.executor == "ray":
            return RayTasks(plan, self.device, self.workers)
        if self.workers:
            return Processes(plan, self.device, self.workers)
        return ThisProcess(plan, self.device)


def run_benchmark(
    bench: Path,
    splits: Sequence[str],
    method: Path,
    measures: MeasureSettings,
    *,
    generation: GenerationSettings | None = None,
    scenes: Sequence[str] | int | None = None,
    floors: Path | None = None,
    workforce: Workforce,
    missing: Mapping[str, str] | None = None,
    progress: ScenesDone | None = None,
) -> dict[str, Any]:
    """Run a benchmark in the published layout and write everything of :mod:`.folder` into `method`.

    Args:
        generation: how to make the videos; None evaluates those that lie in `method`.
        scenes: ids, or how many; all by default.
        floors: where the engine's floors are kept; None is within `method`.
        missing: why an optional measure is not there (its name, a reason), for the report.

    Returns:
        The summary, as in summary.json.

    Raises:
        InputError: the benchmark, the model, the folder or a tool is not usable.
        GenerationError: a worker died.
    """
    splits = list(dict.fromkeys(map(split_name, splits)))
    true_splits = tuple(split for split in splits if has_truth(bench, split))
    if not splits:
        raise InputError("splits is empty; it must name simple, hard or both.")
    _check_engine(measures, splits, true_splits)
    chosen = {split: read_benchmark(bench, split, scenes) for split in splits}
    folder = MethodFolder.of(method, {split: len(s[0].c2w) / s[0].fps for split, s in chosen.items()})
    everything = [scene for split in splits for scene in chosen[split]]
    if generation is None:
        _check_results(folder, everything)
    else:
        find_model(generation.model)
    with folder.locked():
        prints = None if generation is None else model_print(generation.model)
        info = folder.read_info() if generation is None else {}  # ours, which has no refiner, is written below
        plan = Plan(
            bench=bench.resolve(),
            true_splits=true_splits,
            method=MethodFolder(folder.root.resolve(), folder.split_folders),
            floors=(floors or method / "eval" / "floors").resolve(),
            floored=_floored(chosen, measures.floor_scenes),
            generation=generation,
            prints=prints,
            measures=measures,
            skip_first=measures.skips_first(info),
            iq_print=_iq_print(measures),
        )
        with workforce.crew(plan) as crew:
            _work(plan, crew, everything, progress)
        _write_info(plan, everything)
        return conclude(plan, chosen, missing or {}, workforce.device)


def _work(plan: Plan, crew: Crew, scenes: Sequence[BenchScene], progress: ScenesDone | None) -> None:
    """Make the videos that are not there and measure what is not measured, scene by scene: what is done is whole, and
    one worker's GPU is busy while another measures.
    """
    jobs = []
    for scene in scenes:
        if plan.generation is not None and not has_video(plan.method, scene, plan.video_key(scene)):
            jobs.append(Job("make", scene))
        elif not is_measured(plan, scene):
            jobs.append(Job("measure", scene))
    for done in _counted(crew, jobs, "scenes", len(scenes), progress):
        if done.failed is not None:
            scene = done.job.scene
            plan.method.video(scene.split, scene.scene_id).unlink(missing_ok=True)  # it was made with other settings
            write_failure(plan, scene, done.failed)


def _counted(crew: Crew, jobs: Sequence[Job], stage: str, total: int, progress: ScenesDone | None) -> Iterator[Done]:
    """Do jobs and tell the progress; scenes that were done before count as done."""
    before = total - len(jobs)

    def report(share: float) -> None:
        if progress is not None:
            progress(stage, before + share, total)

    report(0.0)
    for done in crew.run(jobs, report):
        before += 1
        report(0.0)
        yield done


def _check_engine(measures: MeasureSettings, splits: Sequence[str], true_splits: Sequence[str]) -> None:
    """Refuse an engine that cannot work, or lacks its library, before hours are spent on videos."""
    if CAMERA not in measures.metrics:
        return
    truth = None
    if measures.engine in ENGINES_WITH_TRUTH:
        if set(splits) - set(true_splits):
            raise InputError(
                f"engine is {measures.engine!r}, which begins at what is truly seen, but the benchmark does not come "
                "with it; use another, such as pycolmap."
            )
        eye = torch.eye(4, dtype=torch.float64)[None]
        truth = TrueViews(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.ones(1, 32, 32), eye, torch.ones(1, 4))
    make_engine(measures.engine, truth, **measures.engine_settings)


def _floored(chosen: Mapping[str, Sequence[BenchScene]], count: int | None) -> frozenset[tuple[str, str]]:
    """The scenes (split, id) whose floors are measured: `count` of a split, from all categories in turn."""
    found = set()
    for split, scenes in chosen.items():
        ids = [scene.scene_id for scene in scenes]
        wanted = ids if count is None else choose(ids, min(count, len(ids)), Path(split)) if count else []
        found |= {(split, scene) for scene in wanted}
    return frozenset(found)


def _check_results(folder: MethodFolder, scenes: Sequence[BenchScene]) -> None:
    if not any(folder.video(scene.split, scene.scene_id).is_file() for scene in scenes):
        wanted = folder.video(scenes[0].split, scenes[0].scene_id)
        raise InputError(f"'{folder.root}' holds no video of the {len(scenes)} scenes; one would be '{wanted}'.")


def _write_info(plan: Plan, scenes: Sequence[BenchScene]) -> None:
    """Describe the method whose videos this run made; the description of other videos is left as it is."""
    if plan.generation is None or plan.prints is None:
        return
    paths = (plan.method.video(scene.split, scene.scene_id) for scene in scenes)
    video = next((VideoFile.open(path) for path in paths if path.is_file()), None)
    info = method_info(plan.generation, plan.prints.model, video)
    if read_ours(plan.method.info) != info:
        write_json(plan.method.info, info)


def _iq_print(measures: MeasureSettings) -> str | None:
    wanted = TEMPORAL in measures.metrics and measures.iq_weights is not None
    return file_sha256(measures.iq_weights) if wanted and measures.iq_weights is not None else None
