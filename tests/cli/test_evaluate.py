"""`sana-wm evaluate`: benchmarks run from the command line, and wrong input ends early, in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sana_wm.cli.evaluate import label
from sana_wm.evaluation.bench.make import make_nano_bench
from tests.cli.conftest import Run
from tests.evaluation.bench.published import SCENES, write_published

NO_CAMERA = ("--metrics", "revisit,temporal,vbench", "--device", "cpu", "--lpips", "no")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published"))


def test_a_published_benchmark_is_run_with_the_releases_flags(
    run: Run, bench: Path, model: Path, tmp_path: Path
) -> None:
    flags = ["--max_pairs", 5, "--ref_fps", 16, "--window_sec", 10, "--interval", 4, "--skip_first_frame", "yes"]
    made = ["--model", model, "--output_dir", tmp_path / "out", "--step", 1, "--seed", 3, "--scenes", 2]
    result = run("evaluate", "bench", "--benchmark", bench, "--split", "simple", *made, *flags, *NO_CAMERA)
    assert result.code == 0, result.err
    folder = tmp_path / "out" / "tiny"
    assert "simple: 2 scenes, 0 failed" in result.out
    assert str(folder / "report.html") in result.out
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["settings"]["generation"]["num_inference_steps"] == 1
    assert summary["settings"]["generation"]["seed"] == 3
    assert summary["settings"]["skip_first_frame"] is True
    assert summary["missing"]["LPIPS"] == "not asked for (--lpips no)"

    again = run(
        "evaluate", "bench", "--benchmark", bench, "--method_dir", folder, "--scenes", ",".join(SCENES[:3]), *NO_CAMERA
    )
    assert again.code == 0, again.err
    assert "simple: 3 scenes, 1 failed" in again.out
    assert "does not exist" in (folder / "report.html").read_text()


def test_the_nano_benchmark_is_made_run_and_reported(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setitem(make_nano_bench.__kwdefaults__, "size", (48, 80))
    flags = ["--scenes", 2, "--seconds", 1, "--worlds", "procedural", "--splits", "simple,hard", "--model", model]
    result = run("evaluate", "nano-bench", *flags, "--output_dir", tmp_path, "--device", "cpu", "--lpips", "no")
    assert result.code == 0, result.err
    assert "simple: 2 scenes" in result.out
    assert "hard: 2 scenes" in result.out
    summary = json.loads((tmp_path / "tiny" / "summary.json").read_text())
    assert summary["settings"]["engine"] == "gt-pnp"
    for split in ("simple", "hard"):
        assert summary["splits"][split]["all"]["truth"]["psnr"]["n"] == 2
        assert summary["splits"][split]["all"]["floors"]["autoencoder"]["scenes"] == 2
    assert list((tmp_path / "bench" / "floors").rglob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "neither is given"),
        (["--model", "nano", "--method_dir", "x"], "both are given"),
        (["--model", "no/such/model/anywhere"], "no/such/model/anywhere"),
        (["--method_dir", "nothing-here"], "holds no video"),
        (["--model", "nano", "--split", "easy"], "easy"),
        (["--model", "nano", "--scenes", "indoor_009"], "indoor_009"),
        (["--model", "nano", "--scenes", "99"], "99 scenes"),
        (["--model", "nano", "--engine", "eyes"], "engine is 'eyes'"),
        (["--model", "nano", "--metrics", "colour"], "metrics is colour"),
        (["--model", "nano", "--step", "0"], "num_inference_steps is 0"),
        (["--model", "nano", "--seed", "-1"], "seed is -1"),
        (["--model", "nano", "--device", "tpu"], "device is 'tpu'"),
        (["--model", "nano", "--executor", "slurm"], "executor 'slurm'"),
        (["--model", "nano", "--workers", "-2"], "workers is -2"),
        (["--model", "nano", "--lpips", "perhaps"], "--lpips is 'perhaps'"),
        (["--model", "nano", "--engine_set", "weights"], "must be NAME=VALUE"),
        (["--model", "nano", "--skip_first_frame", "maybe"], "skip_first_frame is 'maybe'"),
        (["--model", "nano", "--iq_weights", "none.pth"], "iq_weights is 'none.pth'"),
        (["--model", "nano", "--vbench_dims", "beauty"], "vbench_dims is beauty"),
    ],
)
def test_wrong_input_is_one_line_and_2(
    run: Run, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [*NO_CAMERA, *arguments]  # the last of a repeated flag counts
    result = run("evaluate", "bench", "--benchmark", bench, "--split", "simple", *given)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "nowhere", "--model", "nano"], "nowhere"),
        (["--model", "nano"], "--benchmark"),
    ],
)
def test_a_benchmark_that_is_not_there_is_told(run: Run, arguments: list[str], message: str) -> None:
    result = run("evaluate", "bench", *arguments, *NO_CAMERA)
    assert result.code == 2
    assert message in result.err


def test_the_verb_alone_shows_what_there_is(run: Run) -> None:
    result = run("evaluate", "--help")
    assert result.code == 0
    assert "nano-bench" in result.out
    assert "bench" in result.out


def test_results_of_a_model_lie_in_a_folder_that_is_called_like_it(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    assert label("nano") == "nano"
    assert label(str(tmp_path / "my-model")) == "my-model"
    assert label("hf://owner/repo@main") == "owner--repo--main"
