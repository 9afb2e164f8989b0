"""Scenes done as Ray tasks, on this machine or on a cluster whose machines share the folders of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import torch

from sana_wm.errors import InputError, first_line
from sana_wm.evaluation.bench.jobs import Crew, Done, Job, Report, do_job
from sana_wm.evaluation.bench.plan import Plan
from sana_wm.evaluation.bench.tools import Tools


class RayTasks:
    """Tasks of a running Ray cluster, or of one that is started on this machine.

    A task takes one GPU where `device` is CUDA, else an even share of the CPUs. workers: how many tasks run at a time;
    0 is one for each GPU, or one for each machine. Raises :class:`InputError` where Ray is missing or does not start.
    """

    def __init__(self, plan: Plan, device: torch.device, workers: int) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise InputError(
                f"--executor ray needs the package ray, which does not load ({first_line(error)}); install the extra "
                "[ray], or use --workers."
            ) from error
        self._plan, self._device, self._workers = plan, device, workers

    def __enter__(self) -> Crew:
        if not self._ray.is_initialized():
            try:
                self._ray.init(log_to_driver=False, logging_level="warning")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InputError(f"Ray does not start ({first_line(error)}); check the cluster.") from error
        resources = self._ray.cluster_resources()
        cuda = self._device.type == "cuda"
        self._workers = self._workers or int(resources.get("GPU", 0) if cuda else len(self._ray.nodes())) or 1
        threads = max(1, int(resources.get("CPU", 1)) // self._workers)
        needs = {"num_gpus": 1, "num_cpus": 1} if cuda else {"num_cpus": threads}
        # a worker process does many tasks (max_calls 0), so that it loads the model once
        task = self._ray.remote(max_calls=0, max_retries=0, **needs)(_task)
        plan = self._ray.put(self._plan)
        device = "cuda" if cuda else str(self._device)  # Ray shows each task its own GPU only
        self._start = lambda job: task.remote(plan, job, device, 1 if cuda else threads)
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()

    def run(self, jobs: Sequence[Job], report: Report) -> Iterator[Done]:
        waiting = list(jobs)
        running: list[Any] = []
        while waiting or running:
            while waiting and len(running) < self._workers:
                running.append(self._start(waiting.pop(0)))
            ended, running = self._ray.wait(running, timeout=0.5)
            for task in ended:
                try:
                    yield self._ray.get(task)
                except self._ray.exceptions.RayTaskError as error:
                    # as it was raised; Ray's own has the whole traceback for a message
                    raise error.cause from None


_kept: list[tuple[Plan, Tools]] = []
"""In a worker process of Ray: what the tasks of one run share, at most one entry."""


def _task(plan: Plan, job: Job, device: str, threads: int) -> Done:
    if not _kept or _kept[0][0] != plan:
        torch.set_num_threads(threads)
        _kept[:] = [(plan, Tools(plan, torch.device(device)))]
    return do_job(_kept[0][1], job, lambda share: None)
