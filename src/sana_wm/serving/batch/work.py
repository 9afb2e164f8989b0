"""The doing of one job, wherever it is done."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from sana_wm.engine.failure import GenerationError
from sana_wm.engine.fulfil import fulfil
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.scene import Scene, check_scene, read_scene
from sana_wm.engine.source import ModelSource
from sana_wm.errors import InputError
from sana_wm.evaluation.bench.fingerprint import file_sha256, model_print
from sana_wm.serving.batch.jobs_file import FILES, VideoJob
from sana_wm.serving.batch.outcome import Outcome

MARK = "job-"
"""In the names of the folders in which files are made, see :func:`~sana_wm.engine.staging.staged`."""

Report = Callable[[float], None]
"""Gets the share of the job at hand that is done. Whatever it raises ends the job."""

SHARES = {
    "encode": (0.0, 0.0), "denoise": (0.0, 0.7), "decode": (0.7, 0.2), "stream": (0.0, 0.9), "write": (0.9, 0.1),
}  # fmt: skip
"""Where each stage begins, and how much of a job it is; roughly. A video is denoised and decoded, or streamed."""


@dataclass(frozen=True)
class Studio:
    """With which model, and into which folder the videos of a run are made."""

    source: ModelSource
    directory: Path

    def settings(self) -> str:
        """Fingerprint of what all jobs have in common; a hub id is downloaded."""
        source = self.source
        return f"{model_print(source.model).model} {source.device.type} {source.dtype} {source.fp8}"


class Crew(Protocol):
    """Whoever does jobs; leaving the `with` block ends what is still going on."""

    def __enter__(self) -> Crew: ...

    def __exit__(self, *error: object) -> None: ...

    def run(self, jobs: Sequence[VideoJob], report: Report) -> Iterator[Outcome]:
        """The jobs as they end, in any order. `report` may hear how far a job is that is done in this process."""


class ThisProcess:
    """One job after another, here."""

    def __init__(self, studio: Studio, settings: str) -> None:
        self._studio, self._settings = studio, settings

    def __enter__(self) -> ThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, jobs: Sequence[VideoJob], report: Report) -> Iterator[Outcome]:
        pipe = self._studio.source.load()
        for job in jobs:
            yield do_job(pipe, self._studio.directory, self._settings, job, report)


def do_job(pipe: SanaWMPipeline, directory: Path, common: str, job: VideoJob, report: Report) -> Outcome:
    """Make the video of a job and write its files. What is wrong with this job alone fails it, not the run."""
    begin = time.perf_counter()
    settings = ""

    def progress(stage: str, done: int, total: int) -> None:
        before, share = SHARES[stage]
        report(before + share * done / total)

    with _heard() as warnings:
        try:
            scene = read_scene(job.order)
            settings = job_settings(job, common, scene)
            request = check_scene(scene, job.order)
            fulfil(
                pipe, job.order, scene, request, directory, job.name, asked=job.asked, progress=progress, mark=MARK
            )
        except (InputError, GenerationError, torch.OutOfMemoryError, MemoryError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            seconds = time.perf_counter() - begin
            return Outcome(job.line, job.name, settings, seconds, error=said, warnings=tuple(warnings))
    description = json.loads((directory / f"{job.name}.json").read_text(encoding="utf-8"))
    return Outcome(
        job.line, job.name, settings, time.perf_counter() - begin,
        files={file: (directory / file).stat().st_size for file in job.files},
        frames_sha256=description["frames_sha256"], warnings=tuple(warnings),
    )  # fmt: skip


def job_settings(job: VideoJob, common: str, scene: Scene | None = None) -> str:
    """Fingerprint of everything the video of a job is made from: settings, and what is in its files.

    Raises:
        InputError: a file cannot be read.
    """
    scene = read_scene(job.order) if scene is None else scene
    plain = {key: value for key, value in asdict(job.order).items() if key not in FILES}
    plain |= {"name": job.name, "prompt": scene.prompt, "action": scene.action, "fov": scene.fov}
    digest = hashlib.sha256(f"{common}\0{json.dumps(plain, sort_keys=True)}\0".encode())
    try:
        digest.update(file_sha256(scene.image).encode())
    except OSError as error:
        raise InputError(f"image '{scene.image}' cannot be read ({error.strerror or error}).") from error
    for numbers in (scene.c2w, scene.intrinsics):
        if numbers is not None:
            values = np.asarray(numbers, dtype=np.float64)
            digest.update(f"{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()[:32]


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What the package warns of within the block."""
    logger, ear = logging.getLogger("sana_wm"), _Ear()
    logger.addHandler(ear)
    try:
        yield ear.heard
    finally:
        logger.removeHandler(ear)
