"""Recording of game clips before training: once, and the same clips after an interruption."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from sana_wm.data.recorded import RecordedClip
from sana_wm.training.record import STREAMS, record_doom

ROOT = Path(__file__).resolve().parents[2]
MANY = 250 * STREAMS
RECORD_MANY = """
import signal, sys
from pathlib import Path
from tests.training.test_record import MANY, record

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    record(Path(sys.argv[1]), MANY)
except KeyboardInterrupt:
    sys.exit(130)
"""


def record(directory: Path, num_clips: int = 2, stop: Callable[[], bool] = lambda: False) -> list[RecordedClip]:
    return record_doom(
        directory, split="train", num_clips=num_clips, num_frames=9, height=24, width=32, seed=7, workers=1, stop=stop
    )


def times(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.glob("*/*")}


def test_clips_are_recorded_once_and_an_interrupted_recording_is_completed(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    found = record(tmp_path)
    assert [clip.window(0, 9)[0].shape for clip in found] == [(9, 3, 24, 32)] * 2
    assert all(clip.caption for clip in found)
    assert not torch.equal(found[0].window(0, 9)[0], found[1].window(0, 9)[0])  # from two walks

    before = times(tmp_path)
    assert [clip.name for clip in record(tmp_path)] == [clip.name for clip in found]
    assert len(record(tmp_path, num_clips=1)) == 1
    assert times(tmp_path) == before

    expected = [part.clone() for part in found[1].window(0, 9)]
    lost = sorted(tmp_path.iterdir())[1]
    shutil.move(lost, lost.with_name(f".{lost.name}.partial"))
    again = record(tmp_path)
    for ours, theirs in zip(again[1].window(0, 9), expected, strict=True):
        assert torch.equal(ours, theirs)
    assert times(tmp_path).keys() == before.keys()
    kept = next(path for path in before if lost not in path.parents)
    assert times(tmp_path)[kept] == before[kept]


def test_a_recording_that_is_asked_to_stop_returns_what_there_is(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    found = record(tmp_path, MANY, stop=lambda: any(tmp_path.glob("0*")))
    assert 0 < len(found) < MANY // STREAMS
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("processes", [3, 4], ids=["when the worker starts", "when the game runs"])
def test_an_interrupt_in_the_terminal_ends_the_recording_and_all_its_processes(processes: int, tmp_path: Path) -> None:
    """It reaches the worker and the game too; one process answers it."""
    pytest.importorskip("vizdoom")
    if not running(os.getpgid(0)):
        pytest.skip("this system does not list its processes in /proc")
    command = [sys.executable, "-c", RECORD_MANY, str(tmp_path)]
    recording = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_until(lambda: len(running(recording.pid)) >= processes or recording.poll() is not None)
        time.sleep(0.5)  # the worker is well into its imports
        os.killpg(recording.pid, signal.SIGINT)
        _, errors = recording.communicate(timeout=60)
    except BaseException:
        os.killpg(recording.pid, signal.SIGKILL)
        raise
    assert recording.returncode == 130, errors
    assert "Traceback" not in errors
    assert len(list(tmp_path.glob("0*"))) < MANY // STREAMS
    assert not list(tmp_path.glob(".*"))
    wait_until(lambda: not running(recording.pid))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(group: int) -> list[str]:
    """Names of the processes in a process group, where the system lists them; zombies do not run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            name, rest = path.read_text().split("(", 1)[1].rsplit(")", 1)
            state, _, pgrp = rest.split()[:3]
            if int(pgrp) == group and state != "Z":
                found.append(name)
    return found
