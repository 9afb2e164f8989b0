"""A progress bar for every stage that somebody waits for."""

from __future__ import annotations

from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

UNITS = {
    "load": "model", "encode": "input", "denoise": "step", "decode": "frame", "write": "frame", "stream": "chunk"
}  # fmt: skip


class Bars:
    """A progress callback (stage, done, total) that draws on stderr where that is a terminal.

    Use it in a `with` block; log messages inside it are written above the bar.
    """

    def __init__(self) -> None:
        self._stage = ""
        self._bar: tqdm | None = None
        self._logging = logging_redirect_tqdm()

    def __call__(self, stage: str, done: float, total: int) -> None:
        if self._bar is None or stage != self._stage:
            self._close()
            self._stage = stage
            self._bar = self._new_bar(f"{stage:8}", done, total)
        self._bar.update(done - self._bar.n)

    def _new_bar(self, stage: str, done: float, total: int) -> tqdm:
        del done
        return tqdm(total=total, desc=stage, unit=UNITS.get(stage.strip(), "it"), disable=None)

    def __enter__(self) -> Bars:
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
