"""VBench over the videos of a split: run where it is pointed to, on the right frames, and not twice for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sana_wm.engine.mp4 import write_mp4
from sana_wm.errors import InputError
from sana_wm.evaluation.bench.folder import MethodFolder
from sana_wm.evaluation.bench.runner import Workforce, run_benchmark
from sana_wm.evaluation.bench.settings import MeasureSettings
from sana_wm.evaluation.bench.vbench_split import _show
from sana_wm.evaluation.bench.video_file import VideoFile
from tests.evaluation.bench.published import SCENES, write_published
from tests.evaluation.test_vbench_adapter import TWO
from tests.evaluation.test_vbench_adapter import python as python  # a fixture


def test_vbench_is_run_where_it_is_pointed_to_and_its_numbers_are_kept(python: Path, tmp_path: Path) -> None:
    bench, method = write_published(tmp_path / "bench"), MethodFolder(tmp_path / "method")
    frames = torch.randint(0, 256, (17, 32, 48, 3), dtype=torch.uint8).numpy()
    for scene in SCENES:
        method.video("simple", scene).parent.mkdir(parents=True, exist_ok=True)
        write_mp4(method.video("simple", scene), frames, 16)

    def numbers(python: Path, skip: str = "no") -> dict[str, float]:
        measures = MeasureSettings(
            "pycolmap", metrics=("vbench",), vbench_python=python, vbench_dims=TWO, skip_first_frame=skip,  # type: ignore[arg-type]
        )  # fmt: skip
        workforce = Workforce(torch.device("cpu"))
        summary = run_benchmark(bench, ["simple"], method.root, measures, workforce=workforce)
        return dict(summary["splits"]["simple"]["all"]["vbench"])

    first = numbers(python)
    assert {name: first[name] for name in TWO} == dict.fromkeys(TWO, 0.5)
    assert first["overall"] is None
    assert not (method.vbench("simple") / "videos").exists()
    elsewhere = tmp_path / "nowhere" / "python"
    assert numbers(elsewhere) == first  # kept, so VBench was not started
    with pytest.raises(InputError, match="does not start"):
        numbers(elsewhere, skip="yes")
    write_mp4(method.video("simple", SCENES[1]), frames[::-1], 16)
    with pytest.raises(InputError, match="does not start"):
        numbers(elsewhere)


def test_a_first_frame_that_is_left_out_is_not_shown_to_vbench(tmp_path: Path) -> None:
    frames = torch.randint(0, 256, (17, 32, 48, 3), dtype=torch.uint8).numpy()
    write_mp4(tmp_path / "a.mp4", frames, 16)
    _show(tmp_path / "a.mp4", tmp_path / "all.mp4", skip_first=False)
    _show(tmp_path / "a.mp4", tmp_path / "less.mp4", skip_first=True)
    assert (tmp_path / "all.mp4").resolve() == tmp_path / "a.mp4"
    assert VideoFile.open(tmp_path / "less.mp4").num_frames == 16
