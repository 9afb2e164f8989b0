"""One scene's work, wherever it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from sana_wm.engine.failure import DeviceFullError, GenerationError
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.measure import measure_scene
from sana_wm.evaluation.bench.tools import Tools
from sana_wm.evaluation.bench.videos import make_video

Report = Callable[[float], None]
"""Gets the share of the job at hand that is done. Whatever it raises ends the job."""

DENOISED, DECODED = 0.6, 0.7
"""How much of a scene is done when its video is denoised and decoded; measuring it is the rest."""


@dataclass(frozen=True)
class Job:
    """Measure the video of a scene, with `make` after making it."""

    kind: Literal["make", "measure"]
    scene: BenchScene


@dataclass(frozen=True)
class Done:
    """A job that ended; `failed` is why the model made no video, else None."""

    job: Job
    failed: str | None


class Crew(Protocol):
    """Whoever does jobs; leaving the `with` block ends what is still going on."""

    def __enter__(self) -> Crew: ...

    def __exit__(self, *error: object) -> None: ...

    def run(self, jobs: Sequence[Job], report: Report) -> Iterator[Done]:
        """The jobs as they end, in any order. `report` may hear how far a job is that is done in this process."""


def do_job(tools: Tools, job: Job, report: Report) -> Done:
    """Do one job. A model that makes no video fails its scene, not the run.

    Raises :class:`~sana_wm.errors.InputError` or :class:`GenerationError` where something is wrong that other scenes
    would meet as well.
    """
    try:
        return _do(tools, job, report)
    except (torch.OutOfMemoryError, DeviceFullError) as error:
        raise GenerationError(
            f"scene {job.scene.scene_id}, {job.kind}: no memory is left on the device; run the same command with fewer "
            "workers, or when other programs have left the device, to go on from here."
        ) from error


def _do(tools: Tools, job: Job, report: Report) -> Done:
    plan, scene = tools.plan, job.scene

    def progress(stage: str, done: int, total: int) -> None:
        share = done / total
        parts = {"encode": 0.0, "denoise": DENOISED * share, "stream": DECODED * share}
        report(parts.get(stage, DENOISED + (DECODED - DENOISED) * share))

    if job.kind == "make":
        assert plan.generation is not None
        try:
            make_video(tools.pipeline(), plan.method, scene, plan.generation, plan.video_key(scene), progress)
        except DeviceFullError:
            raise  # another worker or program may take it now and not later: no fault of the model
        except GenerationError as error:
            return Done(job, str(error))
    measure_scene(tools, scene)
    return Done(job, None)
