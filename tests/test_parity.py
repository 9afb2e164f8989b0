"""Our code reproduces every golden file, and the runner that says so notices when it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tests import parity
from tests.parity_kinds.base import load_fixture

FIXTURES = Path(__file__).parent / "fixtures"
SIGMAS = FIXTURES / "streaming_sigmas.safetensors"
SAMPLERS = FIXTURES / "streaming_samplers.safetensors"
A_SIGMA = "out.euler.shift9.8.n4.sigmas"


WEIGHTS = FIXTURES / "streaming_model_weights.safetensors"  # holds no outputs; two others read it
GOLDEN = sorted(set(FIXTURES.glob("*.safetensors")) - {WEIGHTS})


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_file_is_reproduced(path: Path) -> None:
    lines: list[str] = []
    report = parity.compare(load_fixture(path), lines.append)
    assert report.passed > 0, "no output was checked"
    assert report.ok(), "\n".join(lines)


def rewritten(source: Path, target: Path, change) -> Path:
    """A copy of a golden file whose tensors went through `change` (a function that edits the dict in place)."""
    with safe_open(str(source), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, str(target), metadata=metadata)
    return target


def test_an_untouched_copy_under_another_name_passes(tmp_path: Path, capsys) -> None:
    copy = rewritten(SIGMAS, tmp_path / "anything.safetensors", lambda tensors: None)
    assert parity.main([str(copy), "--strict"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in load_fixture(copy).outputs():
        assert sum(line.split()[0] == name and line.endswith(" ok") for line in lines) == 1


@pytest.mark.parametrize("error", [2e-6, float("nan"), float("inf")])
def test_an_output_over_its_tolerance_fails(tmp_path: Path, capsys, error: float) -> None:
    def perturb(tensors: dict[str, Tensor]) -> None:
        tensors[A_SIGMA][2] += error

    copy = rewritten(SIGMAS, tmp_path / "copy.safetensors", perturb)
    assert parity.main([str(copy)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.endswith("FAILED")]
    assert [line.split()[0] for line in failed] == [A_SIGMA]


def test_a_wrong_shape_fails(tmp_path: Path) -> None:
    def cut(tensors: dict[str, Tensor]) -> None:
        tensors[A_SIGMA] = tensors[A_SIGMA][:-1].clone()

    assert parity.main([str(rewritten(SIGMAS, tmp_path / "copy.safetensors", cut))]) == 1


def test_an_output_nobody_checks_fails(tmp_path: Path, capsys) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["out.surprise"] = torch.zeros(1)

    assert parity.main([str(rewritten(SIGMAS, tmp_path / "copy.safetensors", add))]) == 1
    assert "out.surprise" in capsys.readouterr().out


def flatten_noise(tensors: dict[str, Tensor]) -> None:
    tensors["in.z"] = tensors["in.z"][0]


def remove_noise(tensors: dict[str, Tensor]) -> None:
    del tensors["in.z"]


@pytest.mark.parametrize("damage", [flatten_noise, remove_noise])
def test_inputs_our_code_cannot_use_fail_and_the_other_files_are_still_checked(tmp_path: Path, capsys, damage) -> None:
    broken = rewritten(SAMPLERS, tmp_path / "broken.safetensors", damage)
    assert parity.main([str(broken), str(SIGMAS)]) == 1
    out = capsys.readouterr().out
    assert "STOPPED" in out
    assert "106 ok" in out


def test_a_kind_without_code_is_listed_and_fails_only_when_strict(tmp_path: Path, capsys) -> None:
    path = tmp_path / "new.safetensors"
    save_file({"out.new": torch.zeros(2)}, str(path), metadata={"config": json.dumps({"a": 1})})
    assert parity.main([str(path)]) == 0
    assert "not implemented yet" in capsys.readouterr().out
    assert parity.main([str(path), "--strict"]) == 1


def test_a_file_that_cannot_be_read_is_one_sentence_and_status_2(tmp_path: Path, capsys) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("not a tensor in sight")
    assert parity.main([str(text), str(SIGMAS)]) == 2
    assert parity.main([str(tmp_path / "missing.safetensors")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "text.safetensors cannot be read" in errors[0]
    assert "missing.safetensors cannot be read" in errors[1]


def test_the_script_runs_from_anywhere(tmp_path: Path) -> None:
    command = [sys.executable, parity.__file__, str(SIGMAS)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "106 ok, 0 over tolerance" in result.stdout
