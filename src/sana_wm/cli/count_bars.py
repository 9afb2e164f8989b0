"""Progress of work that is counted in whole things, such as scenes."""

from __future__ import annotations

from tqdm import tqdm

from sana_wm.cli.bars import Bars

FORMAT = "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total} {unit} [{elapsed}<{remaining}]"


class CountBars(Bars):
    """Bars for which `done` may be part of a thing, and which begin with what an earlier run did."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def _new_bar(self, stage: str, done: float, total: int) -> tqdm:
        return tqdm(total=total, initial=done, desc=stage, bar_format=FORMAT, unit=self._unit, disable=None)
