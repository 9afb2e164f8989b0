"""Telling whoever waits how far each stage is, and remembering how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""(stage, done, total): called at 0 and after each unit of work. Whatever it raises ends the generation."""


class StageClock:
    """Runs stages one after another; `seconds` holds the time each of them took, `current` is the last one's name."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}
        self.current = ""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """A stage of `total` units; call what it yields with the units done so far."""

        def report(done: int) -> None:
            if self._progress is not None:
                self._progress(name, done, total)

        self.current = name
        begin = time.perf_counter()
        report(0)
        yield report
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
