"""Scenes done in this process, or in several of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event

import torch

from sana_wm.engine.failure import GenerationError
from sana_wm.evaluation.bench.jobs import Crew, Done, Job, Report, do_job
from sana_wm.evaluation.bench.plan import Plan
from sana_wm.evaluation.bench.tools import Tools

GRACE_SECONDS = 3.0
"""How long a worker that is told to stop may go on before it ends as it is; nothing half-written has a final name."""


class ThisProcess:
    """One scene after another, here."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self._tools = Tools(plan, device)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, jobs: Sequence[Job], report: Report) -> Iterator[Done]:
        for job in jobs:
            yield do_job(self._tools, job, report)


class Processes:
    """`workers` processes with a model each; several GPUs are dealt out in turn."""

    def __init__(self, plan: Plan, device: torch.device, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._stopped = context.Event()
        numbers: Queue[int] = context.Queue()
        for number in range(workers):
            numbers.put(number)
        threads = max(1, torch.get_num_threads() // workers)  # shared out: together as many as this process has
        start = (plan, str(device), threads, numbers, self._stopped)
        self._pool = ProcessPoolExecutor(workers, context, _start_worker, start)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def run(self, jobs: Sequence[Job], report: Report) -> Iterator[Done]:
        """See :class:`~sana_wm.evaluation.bench.jobs.Crew`.

        Raises :class:`GenerationError` where a worker dies, such as for lack of memory.
        """
        with _interrupts_held():
            running: set[Future[Done]] = {self._pool.submit(_work, job) for job in jobs}
        while running:
            ended, running = wait(running, timeout=0.3, return_when=FIRST_COMPLETED)
            for future in ended:
                try:
                    yield future.result()
                except BrokenProcessPool as error:
                    raise GenerationError(
                        "a worker process died, perhaps for lack of memory; run the same command with fewer workers "
                        "to go on from here."
                    ) from error


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that is started in here never notices Ctrl-C, which a terminal sends to all of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_tools: Tools
"""In a worker: what it works with."""


def _start_worker(plan: Plan, device: str, threads: int, numbers: Queue[int], stopped: Event) -> None:
    global _tools
    threading.Thread(target=_end_with, args=(stopped,), daemon=True).start()
    torch.set_num_threads(threads)
    _tools = Tools(plan, worker_device(torch.device(device), numbers.get()))


def worker_device(device: torch.device, number: int) -> torch.device:
    """The device of worker `number`: with "cuda" each gets the next GPU, with another device all get that."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", number % torch.cuda.device_count())
    return device


def _end_with(stopped: Event) -> None:
    """End this process soon after the run is stopped, and at once when the process that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while parent.is_alive():
        if stopped.wait(0.2):
            time.sleep(GRACE_SECONDS)
            break
    os._exit(1)


def _work(job: Job) -> Done:
    return do_job(_tools, job, lambda share: None)
