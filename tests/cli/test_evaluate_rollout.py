"""`sana-wm evaluate rollout` streams, measures and says what it found; wrong input ends early, in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_videos_are_streamed_and_measured(run: Run, model: Path, tmp_path: Path) -> None:
    flags = ["--model", model, "--seconds", 3, "--scenes", 2, "--step", 1, "--seed", 3, "--device", "cpu"]
    result = run("evaluate", "rollout", *flags, "--output_dir", tmp_path)
    assert result.code == 0, result.err
    folder = tmp_path / "tiny-1-steps"
    assert "| every chunk is made, and finite | 2 chunks | 2 | 2 | yes |" in result.out
    assert str(folder / "rollout.json") in result.out
    found = json.loads((folder / "rollout.json").read_text())
    assert len(found["scenes"]) == 2
    assert len(found["settings"]["stream"]["timesteps"]) == 2
    assert (folder / "sheet_001.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "1", "--seconds", "1"], "both given"),
        (["--minutes", "0"], "the length is 0 s"),
        (["--seconds", "nan"], "the length is nan s"),
        (["--minutes", "1e9"], "at most 100000 are possible"),
        (["--scenes", "0"], "scenes is 0"),
        (["--split", "train"], "split is 'train'"),
        (["--keys", "w-8,zz-3"], "unknown keys"),
        (["--step", "0"], "num_inference_steps is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--save_every", "0"], "save_every is 0"),
        (["--device", "tpu"], "device is 'tpu'"),
        (["--model", "no/such/model/anywhere"], "no/such/model/anywhere"),
    ],
)
def test_wrong_input_is_one_line_and_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("evaluate", "rollout", "--device", "cpu", *arguments)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
