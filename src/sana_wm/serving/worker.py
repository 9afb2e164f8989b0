"""The one thread on which the model runs, for all guests in turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import torch
from torch import nn

from sana_wm.engine.pipeline import SanaWMPipeline

Result = TypeVar("Result")


class CancelledStep(Exception):
    """Ends work that nobody waits for any more."""


class Job:
    """A piece of work that waits or runs; `done` gets its result, its exception, or :class:`CancelledStep`.

    `begun` is when it began by `time.perf_counter`, None before.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.done = work, Future[Any]()
        self.begun: float | None = None
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Have it end before its next layer."""
        self._cancelled.set()

    def check(self) -> None:
        """Raises :class:`CancelledStep` once the job is cancelled."""
        if self._cancelled.is_set():
            raise CancelledStep


class Worker:
    """Runs jobs one after another, first come, first served.

    That is fair because every guest has at most one job: with n guests, each gets every n-th step.
    """

    def __init__(self, pipe: SanaWMPipeline) -> None:
        self._jobs: deque[Job] = deque()
        self._more = threading.Condition()
        self._running: Job | None = None
        self._closed = False
        self._hooks = [layer.register_forward_pre_hook(self._before_layer) for layer in _layers(pipe)]
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="sana-wm steps", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Any]) -> Job:
        """Queue `work`."""
        job = Job(work)
        with self._more:
            if self._closed:
                raise RuntimeError("the worker is closed")
            self._jobs.append(job)
            self._more.notify()
        return job

    def change(self, job: Job, work: Callable[[], Any]) -> bool:
        """Let a job that still waits do this instead, and keep its place; False if it has begun."""
        with self._more:
            waits = job in self._jobs
            if waits:
                job.work = work
        return waits

    def cancel(self, job: Job) -> None:
        """End a job: at once if it still waits, else before its next layer."""
        with self._more:
            waits = job in self._jobs
            if waits:
                self._jobs.remove(job)
            else:
                job.cancel()
        if waits:
            job.work = _nothing
            job.done.set_exception(CancelledStep())

    def close(self) -> None:
        """End what runs and what waits; returns when the thread has ended."""
        with self._more:
            self._closed = True
            for job in [*self._jobs, *([self._running] if self._running else [])]:
                job.cancel()
            self._more.notify()
        self._thread.join()
        for hook in self._hooks:
            hook.remove()

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._jobs)

    @property
    def busy(self) -> bool:
        return self._running is not None or bool(self._jobs)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)  # the number decides how sums are rounded, so it is that of the process
        while True:
            with self._more:
                self._more.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return
                job = self._running = self._jobs.popleft()
                job.begun = time.perf_counter()
            try:
                job.check()
                job.done.set_result(job.work())
            except BaseException as error:
                job.done.set_exception(error)
            finally:
                self._running = None
                job.work = _nothing  # which holds a world
            del job

    def _before_layer(self, layer: nn.Module, inputs: Any) -> None:
        running = self._running
        if running is not None and threading.current_thread() is self._thread:
            running.check()


def _layers(pipe: SanaWMPipeline) -> list[nn.Module]:
    """The layers of a model that have no layers inside, so that a job can end within a fraction of a step."""
    models = [part for part in (pipe.transformer, pipe.codec, pipe.text_encoder) if isinstance(part, nn.Module)]
    return [layer for model in models for layer in model.modules() if not list(layer.children())]


def _nothing() -> None:
    """What a job holds when it is done."""
