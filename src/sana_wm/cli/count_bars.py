"""Progress of work that is counted in whole things, such as scenes."""

from __future__ import annotations

from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

FORMAT = "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total} {unit} [{elapsed}<{remaining}]"


class CountBars:
    """A progress callback (stage, done, total) for which `done` may be part of a thing; one bar a stage, on stderr.

    Use it in a `with` block; log messages inside it are written above the bar.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._stage = ""
        self._bar: tqdm | None = None
        self._logging = logging_redirect_tqdm()

    def __call__(self, stage: str, done: float, total: int) -> None:
        if self._bar is None or stage != self._stage:
            self._close()
            self._stage = stage
            self._bar = tqdm(
                total=total, initial=done, desc=f"{stage:8}", bar_format=FORMAT, unit=self._unit, disable=None
            )
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> CountBars:
        self._logging.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()
        self._logging.__exit__(kind, error, traceback)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
