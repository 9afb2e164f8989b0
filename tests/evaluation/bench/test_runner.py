"""A run: complete files, nothing done twice, nothing kept that other settings made, nothing lost to a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sana_wm.checkpoints.save import save_pretrained
from sana_wm.cli.main import INTERRUPTED
from sana_wm.errors import InputError
from sana_wm.evaluation.bench.folder import MethodFolder
from sana_wm.evaluation.bench.runner import Workforce, run_benchmark
from sana_wm.evaluation.bench.settings import GenerationSettings, MeasureSettings
from tests.engine.tiny import tiny_components
from tests.evaluation.bench import interrupted_run
from tests.evaluation.bench.interrupted_run import METRICS
from tests.evaluation.bench.published import SCENES, write_published

HERE = Workforce(torch.device("cpu"))
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_pretrained(folder, tiny_components())
    return folder


def run(
    bench: Path, method: Path, model: Path | None, *, workforce: Workforce = HERE, **changes: Any
) -> dict[str, Any]:
    """A run without camera, which tiny videos say nothing about."""
    making = {name: changes.pop(name) for name in ("seed", "num_inference_steps") if name in changes}
    scenes, progress = changes.pop("scenes", None), changes.pop("progress", None)
    measures = MeasureSettings("pycolmap", **{"metrics": METRICS, **changes})
    generation = None if model is None else GenerationSettings(str(model), **making)
    return run_benchmark(
        bench, ["simple"], method, measures,
        generation=generation, scenes=scenes, workforce=workforce, progress=progress,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(bench: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a whole run; not to be changed."""
    method = tmp_path_factory.mktemp("done") / "method"
    run(bench, method, model)
    return method


def content(method: Path) -> dict[str, Any]:
    """What a run left, without the times it took."""
    found: dict[str, Any] = {}
    for path in sorted(method.rglob("*")):
        if path.suffix == ".json":
            value = json.loads(path.read_text())
            for key in ("seconds", "timings_seconds"):
                value.pop(key, None)
            found[str(path.relative_to(method))] = value
        elif path.is_file():
            found[str(path.relative_to(method))] = path.read_bytes()
    return found


def written(method: Path, *patterns: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for pattern in patterns for path in method.glob(pattern)}


def scene_json(method: Path, scene: str = SCENES[0]) -> Path:
    return MethodFolder(method).result("simple", scene)


def test_a_run_leaves_the_releases_layout_and_a_report_of_every_scene(done: Path, model: Path) -> None:
    names = {str(path.relative_to(done)) for path in done.rglob("*") if path.is_file()}
    for scene in SCENES:
        assert {
            f"simple/{scene}_generated.mp4",
            f"eval/simple/{scene}.json",
            f"eval/simple/{scene}_sheet.jpg",
            f"eval/simple/videos/{scene}.json",
        } <= names
    assert {"simple/eval_poses.json", "summary.json", "summary.md", "report.html", "method_info.json"} <= names
    assert not [name for name in names if "partial" in name]
    info = json.loads((done / "method_info.json").read_text())
    assert (info["model"], info["fps"], info["resolution"], info["refiner"]) == (str(model), 16.0, "48x32", None)
    report = (done / "report.html").read_text()
    assert all(scene in report for scene in SCENES)
    summary = json.loads((done / "summary.json").read_text())
    assert summary["failed"] == []
    assert summary["splits"]["simple"]["all"]["revisit"]["pairs"] == 3
    assert summary["splits"]["simple"]["all"]["vbench"]["temporal_flickering"] > 0.3
    assert "truth and floors" in summary["missing"]


def test_a_scene_is_described_with_settings_and_versions(done: Path) -> None:
    found = json.loads(scene_json(done).read_text())
    assert found["scene"]["trajectory_id"] == "out_and_back"
    assert found["video"] == {
        "file": "indoor_001_generated.mp4", "frames": 17, "width": 48, "height": 32, "fps": 16.0
    }  # fmt: skip
    assert found["settings"]["window_seconds"] == 10.0
    assert found["versions"]["torch"] == torch.__version__
    assert found["parts"].keys() == {"sheet", *METRICS}
    pair = found["parts"]["revisit"]["pairs"][0]
    assert (pair["video_a"], pair["video_b"]) == (1, 15)
    assert len(found["parts"]["temporal"]["curves"]["sharpness"]) == 17


def test_a_second_run_makes_and_measures_nothing(bench: Path, model: Path, tmp_path: Path) -> None:
    run(bench, tmp_path, model)
    before = written(tmp_path, "simple/*.mp4", "eval/**/*")
    told: list[tuple[str, float, int]] = []
    run(bench, tmp_path, model, progress=lambda *state: told.append(state))
    assert written(tmp_path, "simple/*.mp4", "eval/**/*") == before
    assert set(told) == {("scenes", 3, 3)}


def test_another_seed_number_of_steps_or_model_makes_everything_anew(bench: Path, model: Path, tmp_path: Path) -> None:
    run(bench, tmp_path / "m", model, scenes=1)
    first = content(tmp_path / "m")
    run(bench, tmp_path / "m", model, scenes=1, seed=7)
    second = content(tmp_path / "m")
    video = "simple/indoor_001_generated.mp4"
    assert first[video] != second[video]
    part = ("eval/simple/indoor_001.json", "parts", "temporal", "key")
    assert pick(first, part) != pick(second, part)
    run(bench, tmp_path / "m", model, scenes=1, num_inference_steps=3)
    assert content(tmp_path / "m")[video] not in (first[video], second[video])
    other = tiny_components()
    with torch.no_grad():
        next(other.transformer.parameters()).mul_(1.5)
    save_pretrained(tmp_path / "other", other)
    run(bench, tmp_path / "m", tmp_path / "other", scenes=1)
    assert content(tmp_path / "m")[video] != first[video]
    run(bench, tmp_path / "m", model, scenes=1)
    assert content(tmp_path / "m")[video] == first[video]


def pick(value: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        value = value[name]
    return value


def test_other_settings_of_a_measure_make_only_that_measure_anew(bench: Path, model: Path, tmp_path: Path) -> None:
    run(bench, tmp_path, model, scenes=1)
    marked = json.loads(scene_json(tmp_path).read_text())
    marked["parts"]["temporal"]["mark"] = marked["parts"]["revisit"]["mark"] = "old"
    scene_json(tmp_path).write_text(json.dumps(marked))
    videos = written(tmp_path, "simple/*.mp4")
    run(bench, tmp_path, model, scenes=1, max_pairs=0)
    parts = json.loads(scene_json(tmp_path).read_text())["parts"]
    assert parts["temporal"]["mark"] == "old"
    assert "mark" not in parts["revisit"]
    assert parts["revisit"]["pairs"] == []
    run(bench, tmp_path, model, scenes=1, metrics=("temporal",), skip_first_frame="yes")
    parts = json.loads(scene_json(tmp_path).read_text())["parts"]
    assert "mark" not in parts["temporal"]
    assert written(tmp_path, "simple/*.mp4") == videos


def test_a_part_that_is_not_asked_for_now_is_kept_on_disk_but_not_reported(
    bench: Path, model: Path, tmp_path: Path
) -> None:
    run(bench, tmp_path, model, scenes=1)
    summary = run(bench, tmp_path, model, scenes=1, metrics=("temporal",))
    assert "revisit" in json.loads(scene_json(tmp_path).read_text())["parts"]
    assert summary["splits"]["simple"]["all"]["revisit"]["pairs"] == 0


def test_a_video_or_sheet_that_is_lost_or_touched_is_made_again(
    bench: Path, model: Path, done: Path, tmp_path: Path
) -> None:
    run(bench, tmp_path, model)
    expected = content(tmp_path)
    folder = MethodFolder(tmp_path)
    folder.video("simple", SCENES[0]).write_bytes(folder.video("simple", SCENES[1]).read_bytes())
    folder.video("simple", SCENES[1]).unlink()
    folder.sheet("simple", SCENES[2]).unlink()
    folder.result("simple", SCENES[2]).write_text('{"parts": {')  # cut off
    run(bench, tmp_path, model)
    assert content(tmp_path) == expected


def test_videos_of_another_method_are_measured_and_bad_ones_fail_with_the_reason(
    bench: Path, done: Path, tmp_path: Path
) -> None:
    (tmp_path / "simple_60s").mkdir()  # as the release calls it
    for scene in SCENES[:2]:
        data = (done / "simple" / f"{scene}_generated.mp4").read_bytes()
        (tmp_path / "simple_60s" / f"{scene}_generated.mp4").write_bytes(data if scene == SCENES[0] else data[:3000])
    (tmp_path / "method_info.json").write_text(json.dumps({"model": "theirs", "refiner": "ltx"}))
    summary = run(bench, tmp_path, None)
    assert [entry["scene"] for entry in summary["failed"]] == [SCENES[1], SCENES[2]]
    assert "does not exist" in summary["failed"][1]["reason"]
    assert summary["settings"]["skip_first_frame"] is True
    group = summary["splits"]["simple"]["all"]
    assert (group["scenes"], group["failed"]) == (3, 2)
    assert json.loads((tmp_path / "method_info.json").read_text()) == {"model": "theirs", "refiner": "ltx"}
    poses = json.loads((tmp_path / "simple_60s" / "eval_poses.json").read_text())
    assert poses[SCENES[2]]["RotErr"] is None
    report = (tmp_path / "report.html").read_text()
    assert "2 scenes failed" in report
    assert all(scene in report for scene in SCENES)


def test_a_model_that_makes_no_video_fails_its_scenes_and_not_the_run(bench: Path, tmp_path: Path) -> None:
    broken = tiny_components()
    with torch.no_grad():
        for weight in broken.codec.decoder.parameters():
            weight.fill_(1e30)
    save_pretrained(tmp_path / "broken", broken)
    summary = run(bench, tmp_path / "m", tmp_path / "broken", scenes=2)
    assert len(summary["failed"]) == 2
    assert all("not finite" in entry["reason"] for entry in summary["failed"])
    assert not list((tmp_path / "m" / "simple").glob("*.mp4"))
    assert "not finite" in (tmp_path / "m" / "report.html").read_text()


@pytest.mark.parametrize(
    ("where", "count"),
    [("denoise", 6), *(("rename", count) for count in (1, 2, 8, 9, 14, 17)), ("ended", 3)],
)
def test_a_killed_run_goes_on_to_the_same_end(
    bench: Path, model: Path, done: Path, tmp_path: Path, where: str, count: int
) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=interrupted_run.main, args=(bench, model, tmp_path / "m", 0, "kill", where, count)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    videos = written(tmp_path, "m/simple/*.mp4")
    run(bench, tmp_path / "m", model)
    assert content(tmp_path / "m") == content(done)
    kept = written(tmp_path, "m/simple/*.mp4")
    assert sum(kept[path] == time for path, time in videos.items()) >= len(videos) - 1


def test_ctrl_c_ends_the_run_and_its_workers_and_what_is_done_is_kept(
    bench: Path, model: Path, done: Path, tmp_path: Path
) -> None:
    arguments = map(str, (bench, model, tmp_path / "m", 1, "interrupt", "ended", 2))
    command = [sys.executable, "-m", "tests.evaluation.bench.interrupted_run", *arguments]
    # a process group of its own, for Ctrl-C not to reach the tests
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    assert process.wait(timeout=120) == INTERRUPTED
    assert ends(process.pid)
    assert written(tmp_path, "m/simple/*.mp4")
    run(bench, tmp_path / "m", model)
    assert content(tmp_path / "m") == content(done)


def ends(group: int) -> bool:
    """Whether all processes of a group are gone within seconds."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_worker_processes_make_the_same(bench: Path, model: Path, done: Path, tmp_path: Path) -> None:
    run(bench, tmp_path / "m", model, workforce=Workforce(torch.device("cpu"), workers=2))
    assert content(tmp_path / "m") == content(done)


def test_ray_tasks_make_the_same(bench: Path, model: Path, done: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    run(bench, tmp_path / "m", model, workforce=Workforce(torch.device("cpu"), workers=2, executor="ray"))
    assert content(tmp_path / "m") == content(done)


def test_what_is_wrong_for_every_scene_ends_the_run_wherever_it_is_found(
    bench: Path, model: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "musiq.pth"
    weights.write_bytes(b"no weights")
    for workers in (0, 1):
        with pytest.raises(InputError, match="pyiqa"):
            run(
                bench, tmp_path / "m", model, scenes=1, iq_weights=weights,
                workforce=Workforce(torch.device("cpu"), workers),
            )  # fmt: skip


def test_two_runs_do_not_write_to_one_folder(bench: Path, model: Path, tmp_path: Path) -> None:
    with MethodFolder(tmp_path).locked(), pytest.raises(InputError, match="another run is writing"):
        run(bench, tmp_path, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("camera",), "engine": "gt-pnp"}, "begins at what is truly seen"),
        ({"metrics": ("colour",)}, "metrics is colour"),
        ({"engine": "eyes"}, "engine is 'eyes'"),
        ({"interval": 0}, "interval is 0"),
        ({"window_seconds": 0.0}, "window_seconds is 0.0"),
        ({"skip_first_frame": "perhaps"}, "skip_first_frame is 'perhaps'"),
        ({"iq_weights": Path("none.pth")}, "iq_weights is 'none.pth'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_made(
    bench: Path, model: Path, tmp_path: Path, changes: Mapping[str, Any], message: str
) -> None:
    settings = {"engine": "pycolmap", **changes}
    with pytest.raises(InputError, match=message):
        run_benchmark(
            bench, ["simple"], tmp_path / "m", MeasureSettings(**settings),
            generation=GenerationSettings(str(model)), workforce=HERE,
        )  # fmt: skip
    assert not (tmp_path / "m").exists()


def test_a_folder_without_videos_or_a_benchmark_without_the_split_is_refused(
    bench: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds no video"):
        run(bench, tmp_path, None)
    with pytest.raises(InputError, match="hard"):
        run_benchmark(bench, ["hard"], tmp_path, MeasureSettings("pycolmap", metrics=METRICS), workforce=HERE)
    with pytest.raises(InputError, match="workers is -1"):
        Workforce(torch.device("cpu"), workers=-1)
