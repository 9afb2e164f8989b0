"""Jobs done by replicas of the model, each a Ray actor on a GPU of its own, or with its share of the CPUs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from sana_wm.engine.failure import GenerationError
from sana_wm.serving.batch.jobs_file import VideoJob
from sana_wm.serving.batch.outcome import Outcome
from sana_wm.serving.batch.work import Report, Studio, do_job
from sana_wm.serving.ray_machine import RayMachine

TRIES = 3
"""Replicas that may die over one job, or one after another before they have loaded the model."""


class RayReplicas:
    """`replicas` models of this machine. When one dies, another takes its place, and its job is done again.

    Raises :class:`~sana_wm.errors.InputError` where Ray is missing or does not start, or there are fewer GPUs.
    """

    def __init__(self, studio: Studio, common: str, replicas: int) -> None:
        self._machine = RayMachine(studio.source.device, replicas)
        source = replace(studio.source, device=self._machine.device)
        self._studio, self._common = replace(studio, source=source), common
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, VideoJob | None]] = {}
        self._stillborn = 0

    def __enter__(self) -> RayReplicas:
        self._machine.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._machine.__exit__(*error)

    def run(self, jobs: Sequence[VideoJob], report: Report) -> Iterator[Outcome]:
        """See :class:`~sana_wm.serving.batch.work.Crew`.

        Raises:
            GenerationError: no replica gets so far as to load the model.
        """
        ray = self._machine.ray
        died = {job.name: 0 for job in jobs}
        waiting = deque(jobs)
        for _ in range(min(self._machine.replicas, len(jobs))):
            self._hire()
        while waiting or any(job is not None for _, job in self._busy.values()):
            while waiting and self._idle:
                actor, job = self._idle.pop(), waiting.popleft()
                self._busy[actor.do.remote(job)] = (actor, job)
            ready, _ = ray.wait(list(self._busy), timeout=0.5)
            for task in ready:
                actor, done = self._busy.pop(task)
                try:
                    outcome = ray.get(task)
                except ray.exceptions.RayActorError:
                    if done is None:
                        self._bury()
                    elif (tries := died[done.name] + 1) == TRIES:
                        yield Outcome(done.line, done.name, "", 0.0, error=f"{tries} replicas died over it, perhaps "
                                      "for lack of memory; ask for fewer frames or --replicas.")  # fmt: skip
                    else:
                        died[done.name] = tries
                        waiting.appendleft(done)
                    self._hire()
                    continue
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None  # as it was raised; Ray's own has the whole traceback for a message
                self._idle.append(actor)
                if outcome is None:
                    self._stillborn = 0
                else:
                    yield outcome

    def _hire(self) -> None:
        """One more replica, which loads the model."""
        actor = self._machine.ray.remote(_Replica).options(**self._machine.needs).remote()
        task = actor.load.remote(self._studio, self._common, self._machine.threads)
        self._busy[task] = (actor, None)

    def _bury(self) -> None:
        self._stillborn += 1
        if self._stillborn == TRIES:
            raise GenerationError(
                f"{TRIES} replicas died while they loaded the model, perhaps for lack of memory; use fewer --replicas."
            )


class _Replica:
    """In a process of Ray: one model."""

    def load(self, studio: Studio, common: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._studio, self._common = studio, common
        self._pipe = studio.source.load()

    def do(self, job: VideoJob) -> Outcome:
        return do_job(self._pipe, self._studio.directory, self._common, job, lambda share: None)
