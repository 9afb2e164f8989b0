"""A run over a file of jobs, from beginning to end; what is done already is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sana_wm.engine.staging import sweep
from sana_wm.serving.batch.jobs_file import VideoJob
from sana_wm.serving.batch.ray_crew import RayReplicas
from sana_wm.serving.batch.record import Record
from sana_wm.serving.batch.work import MARK, Crew, Studio, ThisProcess, job_settings

logger = logging.getLogger(__name__)

JobsDone = Callable[[str, float, int], None]
"""("jobs", jobs done, jobs in all): called at 0 and as work goes on."""


@dataclass(frozen=True)
class Summary:
    """Numbers of jobs: made now, made by runs before, failed now."""

    done: int
    kept: int
    failed: int


def run_jobs(
    jobs: Sequence[VideoJob], studio: Studio, replicas: int = 1, progress: JobsDone | None = None
) -> Summary:
    """Do the jobs that are not done yet. One that fails is warned of, and the others go on.

    replicas: 1 is this process; above, so many models through Ray.

    Raises:
        InputError: the model, the device or the folder is not usable, or Ray is not.
        GenerationError: replicas die before they are ready.
    """
    common = studio.settings()
    with Record.open(studio.directory) as record:
        sweep(studio.directory, MARK)
        waiting = [j for j in jobs if not (record.knows(j.name) and record.has(j.name, job_settings(j, common)))]
        kept, failed = len(jobs) - len(waiting), 0
        ended = kept

        def report(share: float) -> None:
            if progress is not None:
                progress("jobs", ended + share, len(jobs))

        report(0.0)
        if waiting:
            here = replicas == 1
            crew: Crew = ThisProcess(studio, common) if here else RayReplicas(studio, common, replicas)
            try:
                with crew:
                    for outcome in crew.run(waiting, report):
                        record.add(outcome)
                        ended += 1
                        failed += outcome.error is not None
                        if not here:  # here they were said when they came up
                            for warning in outcome.warnings:
                                logger.warning("job %s: %s", outcome.name, warning)
                        if outcome.error is not None:
                            logger.warning("job %s (line %d) failed: %s", outcome.name, outcome.line, outcome.error)
                        report(0.0)
            finally:
                sweep(studio.directory, MARK)
    return Summary(ended - kept - failed, kept, failed)
