"""A whole recipe: what it leaves behind, and that nothing that happens to a run changes the model it ends with."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sana_wm.checkpoints.load import load_components
from sana_wm.errors import InputError
from sana_wm.training.progress import Stop, checkpoints
from sana_wm.training.recipe import Recipe
from sana_wm.training.train import train
from tests.training import tiny
from tests.training.tiny import CPU, RECIPE, log

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("autoencoder", "world")


def run(directory: Path, *overrides: str) -> Path | None:
    return train(tiny.recipe(*overrides), directory, device=CPU, stop=Stop(), workers=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing happened to."""
    directory = tmp_path_factory.mktemp("whole")
    assert run(directory) == directory / "model"
    return directory


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_run(directory: Path, expected: Path) -> None:
    for name in STAGES:
        assert log(directory / name) == log(expected / name)
    for name in ("model", "model_int8"):
        assert files(directory / name) == files(expected / name)


def interrupted(
    directory: Path, what: str, stage: str, step: int, workers: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.training.interrupted_run", RECIPE, str(directory)]
    command += [str(workers), what, stage, str(step)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, start_new_session=True, check=False
    )


def test_a_run_leaves_a_model_that_loads(whole: Path) -> None:
    recipe = tiny.recipe()
    for name in ("model", "model_int8"):
        parts = load_components(str(whole / name), device=CPU, dtype=torch.float32)
        assert parts.transformer.config == recipe.world.model
        assert parts.settings == recipe.pipeline
        assert parts.codec.latent_channels == recipe.autoencoder.model.latent_channels
        latents = parts.codec.encode(torch.zeros(1, 3, 9, 16, 32))
        y, mask = parts.text_encoder.encode(["a red cube"])
        velocity = parts.transformer(latents, torch.tensor([500.0]), y, mask)
        assert velocity.shape == latents.shape
        assert velocity.isfinite().all()


def test_a_killed_run_ends_with_the_model_of_an_uninterrupted_one(whole: Path, tmp_path: Path) -> None:
    """Once between two checkpoints of the first stage, once while the second one saves."""
    first = interrupted(tmp_path, "kill", "autoencoder", 3)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert [path.name for path in checkpoints(tmp_path / "autoencoder")] == ["step_00000002"]
    second = interrupted(tmp_path, "kill-saving", "world", 3)
    assert second.returncode == -signal.SIGKILL, second.stderr
    assert [path.name for path in checkpoints(tmp_path / "world")] == ["step_00000002"]
    assert (tmp_path / "world" / ".partial_00000004").is_dir()
    assert run(tmp_path) == tmp_path / "model"
    assert_same_run(tmp_path, whole)


def test_an_interrupt_in_the_terminal_saves_and_stops(whole: Path, tmp_path: Path) -> None:
    """It reaches the worker processes too, and they must not take the step down with them."""
    result = interrupted(tmp_path, "interrupt", "world", 3, workers=1)
    assert (result.returncode, result.stdout.split()) == (0, ["stopped"]), result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in checkpoints(tmp_path / "world")][-1] == "step_00000003"
    assert run(tmp_path) == tmp_path / "model"
    assert_same_run(tmp_path, whole)


def test_a_run_without_time_trains_nothing(tmp_path: Path) -> None:
    stop = Stop(time.monotonic())
    assert train(tiny.recipe(), tmp_path, device=CPU, stop=stop, workers=0) is None
    assert not (tmp_path / "model").exists()
    assert checkpoints(tmp_path / "autoencoder") == []


def test_signal_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    train(tiny.recipe(), tmp_path, device=CPU, stop=Stop(time.monotonic()), workers=0)
    assert signal.getsignal(signal.SIGINT) is before


def only_begin(recipe: Recipe, directory: Path) -> None:
    train(recipe, directory, device=CPU, stop=Stop(time.monotonic()), workers=0)


@pytest.mark.parametrize(
    "override",
    [
        "seed=6",
        "world.model.depth=3",
        "autoencoder.model.decoder_blocks=[1, 1, 2]",
        "world.text.layers=2",
        "data.height=32",
    ],
)
def test_the_directory_of_another_model_is_refused(override: str, tmp_path: Path) -> None:
    only_begin(tiny.recipe(), tmp_path)
    kept = (tmp_path / "recipe.json").read_text()
    with pytest.raises(InputError, match=f"{tmp_path} holds a run of another model"):
        only_begin(tiny.recipe(override), tmp_path)
    assert (tmp_path / "recipe.json").read_text() == kept


def test_a_run_may_go_on_for_longer(tmp_path: Path) -> None:
    only_begin(tiny.recipe(), tmp_path)
    only_begin(tiny.recipe("world.optimizer.steps=8", "save_every=5", "log_every=2"), tmp_path)
    assert '"save_every": 5' in (tmp_path / "recipe.json").read_text()
