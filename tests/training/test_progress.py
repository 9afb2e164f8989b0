"""The loop around a stage: what it writes, how it stops, how it goes on."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.training import progress
from sana_wm.training.progress import Stop, checkpoints, resume, run_stage, save_checkpoint
from tests.training.tiny import Interrupted, log, stopped_after


class Counter:
    """The smallest real stage: adds up the numbers of its steps."""

    name = "counter"

    def __init__(self, steps: int = 6) -> None:
        self.steps = steps
        self.total = torch.zeros(2)

    def step(self, step: int) -> dict[str, Tensor]:
        self.total += step
        return {"loss": self.total.sum()}

    def state_tensors(self) -> dict[str, Tensor]:
        return {"total": self.total}

    def load_state_tensors(self, state: dict[str, Tensor], step: int) -> None:
        self.total.copy_(state["total"])


def steps_of(directory: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in checkpoints(directory)]


def test_a_finished_stage_leaves_its_log_and_its_last_checkpoints(tmp_path: Path) -> None:
    assert run_stage(Counter(7), tmp_path, stop=Stop(), save_every=3, log_every=2)
    assert steps_of(tmp_path) == [6, 7]
    # Every second step, every checkpoint, and the end.
    assert [line["step"] for line in log(tmp_path)] == [2, 3, 4, 6, 7]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1]) == {"step": 7, "loss": 42.0, "steps_per_second": pytest.approx(0, abs=1e9)}
    again = Counter(7)
    assert run_stage(again, tmp_path, stop=Stop(), save_every=3, log_every=2)
    assert torch.equal(again.total, torch.full((2,), 21.0))
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines


def test_a_deadline_stops_and_saves(tmp_path: Path) -> None:
    stop = Stop(time.monotonic() + 1000)
    stage = Interrupted(Counter(), 4, lambda: setattr(stop, "deadline", time.monotonic()))
    assert not run_stage(stage, tmp_path, stop=stop, save_every=100, log_every=100)
    assert steps_of(tmp_path) == [4]
    assert [line["step"] for line in log(tmp_path)] == [4]


def test_a_deadline_that_has_passed_trains_nothing(tmp_path: Path) -> None:
    assert not run_stage(Counter(), tmp_path, stop=Stop(time.monotonic() - 1), save_every=2, log_every=1)
    assert steps_of(tmp_path) == []


def test_a_stopped_stage_goes_on_where_it_was(tmp_path: Path) -> None:
    stage, stop = stopped_after(Counter(), 3)
    assert not run_stage(stage, tmp_path, stop=stop, save_every=2, log_every=1)
    fresh = Counter()
    assert run_stage(fresh, tmp_path, stop=Stop(), save_every=2, log_every=1)
    assert torch.equal(fresh.total, torch.full((2,), 15.0))
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_after_the_step(number: signal.Signals, tmp_path: Path) -> None:
    stop = Stop()
    before = signal.getsignal(number)
    with stop.on_signals():
        stage = Interrupted(Counter(), 3, lambda: signal.raise_signal(number))
        assert not run_stage(stage, tmp_path, stop=stop, save_every=100, log_every=100)
    assert steps_of(tmp_path) == [3]
    assert signal.getsignal(number) is before


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    stop = Stop()

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with stop.on_signals(), pytest.raises(KeyboardInterrupt):
        run_stage(Interrupted(Counter(), 3, twice), tmp_path, stop=stop, save_every=2, log_every=1)
    assert steps_of(tmp_path) == [2]


class Diverging(Counter):
    """Not a number from step `at` on, as weights that once were not finite stay so."""

    def __init__(self, at: int, spoiled: str = "loss") -> None:
        super().__init__()
        self.at, self.spoiled = at, spoiled

    def step(self, step: int) -> dict[str, Tensor]:
        scalars = {**super().step(step), "grad": torch.ones(())}
        if step + 1 >= self.at:
            scalars[self.spoiled] = torch.tensor(torch.nan)
            self.total += torch.nan
        return scalars


@pytest.mark.parametrize(("log_every", "save_every"), [(1, 2), (100, 2), (100, 5)])
@pytest.mark.parametrize("spoiled", ["loss", "grad"])
def test_numbers_that_are_not_finite_end_the_run_and_keep_the_last_good_checkpoint(
    log_every: int, save_every: int, spoiled: str, tmp_path: Path
) -> None:
    with pytest.raises(FloatingPointError, match=r"counter: step [45] gave .*nan"):
        run_stage(Diverging(4, spoiled), tmp_path, stop=Stop(), save_every=save_every, log_every=log_every)
    assert steps_of(tmp_path) == ([2] if save_every == 2 else [])
    assert not (tmp_path / "log.jsonl").read_text().count("NaN")


def test_numbers_that_are_not_finite_are_not_saved_when_the_time_is_up(tmp_path: Path) -> None:
    """However late during the step the stop becomes due."""

    class Late(Stop):
        """Due from its `question`-th answer on."""

        def __init__(self, question: int) -> None:
            super().__init__()
            self.left = question

        def due(self) -> bool:
            self.left -= 1
            return self.left <= 0

    for question in range(2, 8):
        directory = tmp_path / f"{question}"
        with pytest.raises(FloatingPointError):
            run_stage(Diverging(1), directory, stop=Late(question), save_every=100, log_every=100)
        assert steps_of(directory) == []


def test_a_checkpoint_holds_what_was_saved(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3), "c": torch.ones(2).bfloat16()}
    save_checkpoint(tmp_path, 12, state)

    class Reader(Counter):
        def load_state_tensors(self, state: dict[str, Tensor], step: int) -> None:
            self.found, self.at = state, step

    reader = Reader()
    assert resume(reader, tmp_path) == reader.at == 12
    assert {name: (t.dtype, t.tolist()) for name, t in reader.found.items()} == {
        name: (t.dtype, t.tolist()) for name, t in state.items()
    }


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 2, {"total": torch.zeros(3)})
    with pytest.raises(InputError, match="step_00000002 does not belong to this recipe"):
        resume(Counter(), tmp_path)
    save_checkpoint(tmp_path, 3, {"other": torch.zeros(2)})
    with pytest.raises(InputError, match="step_00000003 does not belong to this recipe"):
        resume(Counter(), tmp_path)


def test_an_unfinished_checkpoint_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while it saves leaves the checkpoint before."""
    stage = Counter()
    stage.step(1)
    save_checkpoint(tmp_path, 2, stage.state_tensors())

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    for where in ("os.replace", "save_file", "json.dumps"):
        owner, _, name = where.rpartition(".")
        with monkeypatch.context() as patch:
            patch.setattr(getattr(progress, owner) if owner else progress, name, die)
            with pytest.raises(Killed):
                save_checkpoint(tmp_path, 4, stage.state_tensors())
        assert steps_of(tmp_path) == [2]
        assert resume(Counter(), tmp_path) == 2
    save_checkpoint(tmp_path, 4, stage.state_tensors())
    assert steps_of(tmp_path) == [2, 4]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_log_of_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Lines after the checkpoint, whole or torn, are of steps that are taken again."""

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(Interrupted(Counter(), 5, die), tmp_path, stop=Stop(), save_every=3, log_every=1)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    assert run_stage(Counter(), tmp_path, stop=Stop(), save_every=3, log_every=1)
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]
