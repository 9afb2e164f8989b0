"""`sana-wm play` and `serve`: what is wrong is said at once, and a recorded walk can be made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.stream_plan import plan_stream
from sana_wm.serving.walk import Beginning, Step, chunk_hash, describe_walk
from tests.cli.conftest import Run
from tests.engine.tiny import picture


@pytest.fixture
def recorded(model: Path, tmp_path: Path) -> Path:
    """A walk of two chunks, as the page downloads it."""
    pipe = SanaWMPipeline.from_pretrained(model, device="cpu")
    plan = plan_stream(pipe.settings, 2)
    beginning = Beginning.of(pipe, picture(), "a street", seed=5, fov=70.0)
    with beginning.begin(pipe, plan) as world:
        steps = [Step(keys, chunk_hash(world.step(keys))) for keys in ("w-24", "d-4,wd-20")]
    path = tmp_path / "walk.json"
    path.write_text(json.dumps(describe_walk(pipe, beginning, plan, steps, (0, 2))))
    return path


def test_a_recorded_walk_is_made_again_with_the_same_frames(run: Run, recorded: Path, model: Path) -> None:
    out = recorded.parent / "out"
    result = run("play", "--replay", recorded, "--model", model, "--device", "cpu", "--output_dir", out)
    assert result.code == 0, result.err
    assert result.out.count("the same frames") == 2
    assert (out / "walk.mp4").stat().st_size > 1000


def test_other_frames_than_those_recorded_are_said(run: Run, recorded: Path, model: Path) -> None:
    content = json.loads(recorded.read_text())
    content["steps"][1]["keys"] = "a-24"
    recorded.write_text(json.dumps(content))
    out = recorded.parent / "out"
    result = run("play", "--replay", recorded, "--model", model, "--device", "cpu", "--output_dir", out)
    assert result.code == 2
    assert "chunk 1" in result.err


@pytest.mark.parametrize(
    "change",
    [{"format": "x"}, {"version": 9}, {"world": {}}, {"world": None}, {"steps": [1]}, {"steps": 7}, {"stream": []}],
    ids=str,
)
def test_what_is_no_walk_is_refused(run: Run, recorded: Path, model: Path, change: dict[str, Any]) -> None:
    recorded.write_text(json.dumps(json.loads(recorded.read_text()) | change))
    result = run("play", "--replay", recorded, "--model", model)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_a_file_that_is_no_json_is_refused(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "walk.json").write_text(content)
    assert run("play", "--replay", tmp_path / "walk.json").code == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--host", "0.0.0.0"], "token_file"),
        (["--port", "70000"], "port"),
        (["--host", "no.such.host.invalid", "--token_file", "token"], "host"),
        (["--token_file", "missing"], "token file"),
        (["--token_file", "short"], "8 or more"),
        (["--device", "abacus"], "device"),
        (["--idle_seconds", "nan"], "idle_seconds"),
    ],
    ids=str,
)
def test_wrong_flags_stop_before_the_model_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], says: str
) -> None:
    pytest.importorskip("fastapi", reason="needs the packages of the extra 'serve'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("long enough\n")
    (tmp_path / "short").write_text("abc\n")
    result = run("serve", "--model", "no-such-model", *flags)
    assert result.code == 2
    assert says in result.err
