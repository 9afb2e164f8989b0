"""A stage of training that can be stopped and taken up again: its checkpoints, its log, its loop."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from sana_wm.errors import InputError
from sana_wm.training.parallel import ALONE, Peers

logger = logging.getLogger(__name__)

KEEP = 2
"""Checkpoints of a stage kept on disk."""


class Stage(Protocol):
    """One thing to train. A step depends only on the state below and on its own number, which makes resuming exact."""

    name: str
    steps: int

    def step(self, step: int) -> dict[str, Tensor]:
        """Train once; the returned scalars go to the log. They stay on the device until they are looked at."""

    def state_tensors(self) -> dict[str, Tensor]: ...

    def load_state_tensors(self, state: dict[str, Tensor], step: int) -> None: ...


@dataclass
class Stop:
    """Whether to stop after the current step: asked to by a signal, or out of time."""

    deadline: float | None = None
    signalled: bool = field(default=False)

    def due(self) -> bool:
        return self.signalled or (self.deadline is not None and time.monotonic() >= self.deadline)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask to stop; a second one interrupts at once."""

        def handler(number: int, frame: FrameType | None) -> None:
            if self.signalled:
                raise KeyboardInterrupt
            self.signalled = True
            logger.warning("stopping after this step; once more to stop now")

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, handler) for number in numbers}
        try:
            yield
        finally:
            for number, previous in before.items():
                signal.signal(number, previous)


def save_checkpoint(directory: Path, step: int, state: dict[str, Tensor]) -> None:
    """Write `directory`/step_N so that it exists either whole or not at all, then drop the oldest."""
    final = directory / f"step_{step:08d}"
    partial = directory / f".partial_{step:08d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({k: v.detach().contiguous().cpu() for k, v in state.items()}, str(partial / "state.safetensors"))
    (partial / "progress.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    for old in checkpoints(directory)[:-KEEP]:
        shutil.rmtree(old)


def checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in directory.glob("step_*") if (path / "progress.json").is_file())


def resume(stage: Stage, directory: Path) -> int:
    """Load the newest checkpoint into `stage`; the step to go on with (0 without one)."""
    found = checkpoints(directory)
    if not found:
        return 0
    step = int(json.loads((found[-1] / "progress.json").read_text())["step"])
    state = load_file(str(found[-1] / "state.safetensors"))
    try:
        stage.load_state_tensors(state, step)
    except (KeyError, RuntimeError) as error:
        raise InputError(f"checkpoint {found[-1]} does not belong to this recipe: {error}") from error
    logger.info("%s: resumed at step %d", stage.name, step)
    return step


def run_stage(
    stage: Stage, directory: Path, *, stop: Stop, save_every: int, log_every: int, peers: Peers = ALONE
) -> bool:
    """Train `stage` to its last step, from where it was left. True when it is finished, False when stopped before.

    Writes `directory`/log.jsonl, one line every `log_every` steps, and a checkpoint every `save_every` and at the end.
    Of several `peers` one writes, and all stop after the same step when one is asked to.

    Raises:
        FloatingPointError: a logged number is not finite; nothing is saved from then on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    step = resume(stage, directory)
    log_path = directory / "log.jsonl" if peers.leads else Path(os.devnull)
    if peers.leads:
        _cut_log(log_path, step)
    peers.wait()  # all have read the checkpoint before it can be replaced
    started, first = time.monotonic(), step
    saved = step
    stopping = peers.any(stop.due())  # asked once a step, so that nothing is saved unseen
    with (
        log_path.open("a", encoding="utf-8") as log,
        tqdm(
            total=stage.steps, initial=step, desc=stage.name, unit="step", mininterval=5.0, disable=not peers.leads
        ) as bar,
    ):
        while step < stage.steps and not stopping:
            scalars = stage.step(step)
            step += 1
            bar.update()
            stopping = peers.any(stop.due())
            if step % log_every == 0 or step % save_every == 0 or step == stage.steps or stopping:
                metrics = peers.mean(scalars)
                if not all(math.isfinite(value) for value in metrics.values()):
                    raise FloatingPointError(
                        f"{stage.name}: step {step} gave {metrics}; the last good checkpoint is kept"
                    )
                rate = (step - first) / (time.monotonic() - started)
                line = {"step": step, **metrics, "steps_per_second": round(rate, 3)}
                if torch.cuda.is_available():
                    line["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
                log.write(json.dumps(line) + "\n")
                log.flush()
                bar.set_postfix({k: f"{v:.4g}" for k, v in metrics.items()})
            if step % save_every == 0:
                _save(stage, directory, step, peers)
                saved = step
    if saved != step:
        _save(stage, directory, step, peers)
    return step >= stage.steps


def _save(stage: Stage, directory: Path, step: int, peers: Peers) -> None:
    if peers.leads:
        save_checkpoint(directory, step, stage.state_tensors())
    peers.wait()


def _cut_log(path: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint, a torn line included: those steps are taken again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)
