"""The command itself: quick to answer, and the same version everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sana_wm
from tests.cli.conftest import Run


def test_help_needs_no_pytorch() -> None:
    program = (
        "import sys\nfrom sana_wm.cli.main import main\n"
        "try: main(['generate', '--help'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print([name for name in ('torch', 'numpy', 'PIL', 'av') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--action" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_without_a_verb_the_help_is_shown(run: Run) -> None:
    result = run()
    assert result.code == 0
    assert "generate" in result.out
    assert "train" in result.out


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").out == f"sana-wm {sana_wm.__version__}\n"
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert declared is None or declared[1] == sana_wm.__version__


@pytest.mark.parametrize("arguments", [["--nonsense"], ["paint"], ["generate", "--step"]])
def test_a_wrong_command_line_is_one_line_and_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("name", sana_wm.__all__)
def test_what_the_package_offers_is_there(name: str) -> None:
    assert getattr(sana_wm, name) is not None
    assert name in dir(sana_wm)


def test_what_it_does_not_offer_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sana_wm.nonsense


@pytest.mark.parametrize("recipe", ["nano-ode", "nano-forcing"])
def test_a_recipe_with_a_teacher_is_a_distillation(recipe: str, run: Run, tmp_path: Path) -> None:
    result = run("train", recipe, "--output_dir", str(tmp_path / "run"), "--device", "cpu")
    assert result.code == 2
    assert "a student begins with a trained model; give --init" in result.err
    assert not (tmp_path / "run").exists()
