"""What happens to a training run when the keys of GDN blocks are scaled less than by (D*S)^-1/2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from sana_wm.training.world import WorldStage

LOOK_EVERY = 10
"""Steps between two looks at the eigenvalues; the first steps are all looked at."""
FIRST_LOOKS = 5


@dataclass
class KeyScaleRun:
    """What was seen.

    Attributes:
        loss, grad: of each step, as far as they are finite.
        eigenvalue, growth: at `looked`, the largest eigenvalue of a frame's write matrix K^T b K, and the largest
            factor by which a frame multiplies a state.
        first_bad_step: the first step, from 0, whose loss or gradient is not finite; None if there was none.
    """

    loss: list[float] = field(default_factory=list)
    grad: list[float] = field(default_factory=list)
    looked: list[int] = field(default_factory=list)
    eigenvalue: list[float] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    first_bad_step: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: that becomes None."""
        values = asdict(self)
        for name in ("eigenvalue", "growth"):
            values[name] = [x if math.isfinite(x) else None for x in values[name]]
        return values


def run_until_bad(stage: WorldStage, steps: int, report: Callable[[int], None] | None = None) -> KeyScaleRun:
    """Train at most `steps`, and stop where a number is not finite."""
    run = KeyScaleRun()
    for step in range(steps):
        if step < FIRST_LOOKS or step % LOOK_EVERY == 0:
            growth = stage.growth(step)
            run.looked.append(step)
            run.eigenvalue.append(growth.eigenvalue)
            run.growth.append(growth.largest)
        scalars = stage.step(step)
        loss, grad = float(scalars["loss"]), float(scalars["grad"])
        if not (math.isfinite(loss) and math.isfinite(grad)):
            run.first_bad_step = step
            break
        run.loss.append(loss)
        run.grad.append(grad)
        if report is not None:
            report(step + 1)
    return run
