"""The real VBench runs in an environment of its own, and nothing it fails to measure is passed over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sana_wm.errors import InputError
from sana_wm.evaluation.vbench_adapter import read_results, result_file, run_vbench

VBENCH = """
import json, os
from . import utils

class VBench:
    def __init__(self, device, full_info, out):
        assert os.path.isfile(full_info)
        self.device, self.out = device, out

    def evaluate(self, videos_path, name, prompt_list, dimension_list, local, mode):
        assert mode == "custom_input" and sorted(os.listdir(videos_path)) == sorted(prompt_list)
        assert local == (utils.CACHE_DIR != "default")
        if "dynamic_degree" in dimension_list:
            raise RuntimeError("no raft weights in " + utils.CACHE_DIR)
        with open(os.path.join(self.out, name + "_eval_results.json"), "w") as file:
            json.dump({d: [0.5, [{"video_path": "x", "video_results": 0.5}]] for d in dimension_list}, file)
"""
"""In place of the real package, which wants an older Python environment and 5 GB of weights."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another environment, where a package `vbench` is installed and this one is not."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    packages = next(home.glob("lib/python*/site-packages"))
    (packages / "vbench").mkdir()
    (packages / "vbench" / "__init__.py").write_text(VBENCH)
    (packages / "vbench" / "utils.py").write_text('CACHE_DIR = "default"')
    (packages / "vbench" / "VBench_full_info.json").write_text("[]")
    (packages / "torch.py").write_text("device = str")
    return home / "bin" / "python"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "indoor_001_generated.mp4").touch()
    return folder


PROMPTS = {"indoor_001_generated.mp4": "a room"}
TWO = ("subject_consistency", "imaging_quality")


def test_the_other_environment_measures_and_its_numbers_come_back(python: Path, videos: Path, tmp_path: Path) -> None:
    raw = run_vbench(videos, PROMPTS, tmp_path / "out", dimensions=TWO, python=python)
    assert raw == {"subject_consistency": 0.5, "imaging_quality": 0.5}


def test_the_users_weights_are_used(python: Path, videos: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    with pytest.raises(InputError, match="weights' are no folder"):
        run_vbench(videos, PROMPTS, tmp_path / "out", dimensions=TWO, python=python, weights=weights)
    weights.mkdir()
    with pytest.raises(InputError, match=f"no raft weights in {weights}"):
        run_vbench(videos, PROMPTS, tmp_path, dimensions=("dynamic_degree",), python=python, weights=weights)


def test_a_dimension_that_fails_is_an_error_also_where_an_old_number_lies(
    python: Path, videos: Path, tmp_path: Path
) -> None:
    result_file(tmp_path, "dynamic_degree").write_text(json.dumps({"dynamic_degree": [0.9, []]}))
    with pytest.raises(InputError, match="no raft weights"):
        run_vbench(videos, PROMPTS, tmp_path, dimensions=("dynamic_degree",), python=python)
    with pytest.raises(InputError, match=r"dynamic_degree_eval_results.json' do not exist"):
        read_results(tmp_path, ("dynamic_degree",))


def test_an_environment_without_vbench_is_named(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere/python' for VBench does not start"):
        run_vbench(videos, PROMPTS, tmp_path / "out", python=tmp_path / "nowhere" / "python")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "cannot be read as JSON"),
        ("{}", "imaging_quality in .* is None"),
        ('{"imaging_quality": [NaN, []]}', "is nan; it must be a finite number"),
    ],
)
def test_results_without_a_number_are_refused(tmp_path: Path, text: str, message: str) -> None:
    result_file(tmp_path, "imaging_quality").write_text(text)
    with pytest.raises(InputError, match=message):
        read_results(tmp_path, ("imaging_quality",))


def test_a_folder_vbench_would_misread_is_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scene' is not run here"):
        run_vbench(videos, PROMPTS, tmp_path / "out", dimensions=("scene",))
    with pytest.raises(InputError, match=r"'indoor_001_generated.mp4' has no prompt"):
        run_vbench(videos, {}, tmp_path / "out")
    (videos / "sheet.png").touch()
    with pytest.raises(InputError, match=r"holds 'sheet.png'"):
        run_vbench(videos, PROMPTS, tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="is empty"):
        run_vbench(empty, {}, tmp_path / "out")
    with pytest.raises(InputError, match="missing' are no folder"):
        run_vbench(tmp_path / "missing", {}, tmp_path / "out")
