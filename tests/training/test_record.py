"""Recording of game clips before training: once, and the same clips after an interruption."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from sana_wm.data.recorded import RecordedClip
from sana_wm.training.record import record_doom


def record(directory: Path, num_clips: int = 2) -> list[RecordedClip]:
    return record_doom(
        directory, split="train", num_clips=num_clips, num_frames=9, height=24, width=32, seed=7, workers=1
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
