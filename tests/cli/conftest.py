from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sana_wm.checkpoints.save import save_pretrained
from sana_wm.cli.main import main
from tests.engine.tiny import picture, tiny_components


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command with the arguments given."""

    def run(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return Result(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with tiny untrained weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_pretrained(folder, tiny_components())
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in" / "street.png")
    return tmp_path / "in" / "street.png"
