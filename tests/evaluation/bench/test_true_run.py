"""A run on a benchmark that knows the truth: camera errors, floors and likeness come out as they must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sana_wm.engine.mp4 import write_mp4
from sana_wm.evaluation.bench.dataset import BenchScene, read_benchmark
from sana_wm.evaluation.bench.floors import AUTOENCODER, RENDER, floor_key
from sana_wm.evaluation.bench.folder import MethodFolder
from sana_wm.evaluation.bench.make import make_nano_bench
from sana_wm.evaluation.bench.runner import Workforce, run_benchmark
from sana_wm.evaluation.bench.settings import GenerationSettings, MeasureSettings
from sana_wm.evaluation.bench.true_video import TrueVideo, video_intrinsics
from sana_wm.evaluation.bench.truth import true_clip
from sana_wm.evaluation.bench.video_file import VideoFile
from sana_wm.worlds.clip import WorldClip
from sana_wm.worlds.procedural import Renderer

pytest.importorskip("cv2")

SIZE = (96, 160)
HERE = Workforce(torch.device("cpu"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("true") / "bench"
    make_nano_bench(root, scenes=2, seconds=1.0, size=SIZE, worlds=("procedural",))
    return root


@pytest.fixture(scope="module")
def scenes(bench: Path) -> list[BenchScene]:
    return read_benchmark(bench, "simple")


@pytest.fixture(scope="module")
def clips(bench: Path, scenes: list[BenchScene]) -> list[WorldClip]:
    return [true_clip(bench, scene, device="cpu", renderer=Renderer()) for scene in scenes]


@pytest.fixture
def method(tmp_path: Path, scenes: list[BenchScene], clips: list[WorldClip]) -> Path:
    """Results of a method that makes the first scene perfectly and noise of the second."""
    folder = MethodFolder(tmp_path / "method")
    true = clips[0].frames.permute(0, 2, 3, 1).numpy()
    noise = np.random.default_rng(0).integers(0, 256, true.shape, dtype=np.uint8)
    for scene, frames in zip(scenes, (true, noise), strict=True):
        path = folder.video("simple", scene.scene_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, frames, 16)
    return folder.root


def run(bench: Path, method: Path, floors: Path, **settings: Any) -> dict[str, Any]:
    generation, scenes = settings.pop("generation", None), settings.pop("scenes", None)
    return run_benchmark(
        bench, ["simple"], method, MeasureSettings("gt-pnp", **settings),
        floors=floors, generation=generation, scenes=scenes, workforce=HERE,
    )  # fmt: skip


def test_a_perfect_video_is_at_the_floor_and_noise_fails(
    bench: Path, method: Path, scenes: list[BenchScene], tmp_path: Path
) -> None:
    summary = run(bench, method, tmp_path / "floors")
    good, bad = (scene.scene_id for scene in scenes)
    assert [(entry["scene"], entry["split"]) for entry in summary["failed"]] == [(bad, "simple")]
    assert "a pose was recovered for" in summary["failed"][0]["reason"]
    group = summary["splits"]["simple"]["all"]
    assert (group["scenes"], group["measured"], group["failed"]) == (2, 1, 1)
    assert group["camera"]["rot_err"]["mean"] < 1.0
    assert group["floors"]["render"]["rot_err"]["mean"] < 0.5
    assert group["floors"]["render"]["failed"] == 0
    assert group["floors"]["autoencoder"] is None  # nobody said which model it was
    found = json.loads(MethodFolder(method).result("simple", good).read_text())["parts"]
    assert found["truth"]["psnr"] > 30
    assert found["temporal"]["sharpness"]["ratio"] == pytest.approx([1.0], abs=0.15)
    assert found["camera"]["registered"] == 1.0
    assert len(found["camera"]["aligned"]) == len(found["camera"]["asked"]) == 5
    assert found["camera"]["curves"]["rotation_deg"][0] is not None
    poses = json.loads((method / "simple" / "eval_poses.json").read_text())
    assert poses[good]["RotErr"] == pytest.approx(group["camera"]["rot_err"]["mean"])
    assert poses[bad]["RotErr"] is None
    report = (method / "report.html").read_text()
    assert report.index(bad) < report.index(good)


def test_floors_are_kept_beside_the_benchmark_and_read_from_there(
    bench: Path, method: Path, scenes: list[BenchScene], tmp_path: Path
) -> None:
    one: dict[str, Any] = {"metrics": ("camera",), "scenes": [scenes[0].scene_id]}
    run(bench, method, tmp_path / "floors", **one)
    (path,) = (tmp_path / "floors").rglob("*.json")
    kept = json.loads(path.read_text())
    kept["floor"]["release"]["rot_err"] = 7.0
    path.write_text(json.dumps(kept))
    MethodFolder(method).result("simple", scenes[0].scene_id).unlink()
    summary = run(bench, method, tmp_path / "floors", **one)
    assert summary["splits"]["simple"]["all"]["floors"]["render"]["rot_err"]["mean"] == 7.0


def test_floors_of_some_scenes_are_enough(bench: Path, method: Path, scenes: list[BenchScene], tmp_path: Path) -> None:
    summary = run(bench, method, tmp_path / "floors", metrics=("camera",), floor_scenes=1)
    assert [path.name.split("_render")[0] for path in (tmp_path / "floors").rglob("*.json")] == [scenes[0].scene_id]
    assert summary["splits"]["simple"]["all"]["floors"]["render"]["rot_err"]["mean"] < 0.5
    again = run(bench, method, tmp_path / "floors", metrics=("camera",), floor_scenes=0)
    assert again["splits"]["simple"]["all"]["floors"]["render"] is None


def test_every_setting_that_changes_a_floor_changes_its_key() -> None:
    camera = {"engine": "gt-pnp", "interval": 4, "frames": 17}
    keys = {
        floor_key(camera, RENDER, None),
        floor_key(camera, AUTOENCODER, "codec"),
        floor_key(camera, AUTOENCODER, "another codec"),
        *(floor_key({**camera, name: 2}, RENDER, None) for name in camera),
    }
    assert len(keys) == 6
    assert floor_key(dict(reversed(camera.items())), RENDER, None) in keys


def test_a_model_of_ours_gets_the_floor_of_its_autoencoder(
    bench: Path, scenes: list[BenchScene], tmp_path: Path
) -> None:
    generation = GenerationSettings("nano", num_inference_steps=1)
    one: dict[str, Any] = {"metrics": ("camera",), "scenes": [scenes[0].scene_id]}
    summary = run(bench, tmp_path / "nano", tmp_path / "floors", generation=generation, **one)
    floors = summary["splits"]["simple"]["all"]["floors"]
    assert floors["render"]["rot_err"]["mean"] < 0.5
    assert 20 < floors["autoencoder"]["psnr"]["mean"] < 50
    assert 0.5 < floors["autoencoder"]["sharpness_ratio"]["mean"] < 1.1
    assert not list((tmp_path / "floors").rglob("*.mp4"))


def test_the_truth_is_scaled_and_cut_like_the_first_frame_of_a_model_of_another_size(
    scenes: list[BenchScene], clips: list[WorldClip], tmp_path: Path
) -> None:
    same = TrueVideo.fitted(clips[0], SIZE)
    assert torch.equal(same.frames, clips[0].frames)
    fitted = TrueVideo.fitted(clips[0], (72, 72))
    assert fitted.frames.shape == (17, 3, 72, 72)
    views = fitted.views(4, 3)
    assert views is not None
    assert views.frames.shape == (3, 3, *SIZE)
    assert torch.equal(views.frames[2], clips[0].frames[8])
    write_mp4(tmp_path / "a.mp4", fitted.frames.permute(0, 2, 3, 1).numpy(), 16)
    lens = video_intrinsics(scenes[0], VideoFile.open(tmp_path / "a.mp4"))
    fx, _, cx, _ = scenes[0].intrinsics[0].tolist()
    assert lens[0, 0] == pytest.approx(fx * 0.75)
    assert lens[0, 2] == pytest.approx(cx * 0.75 - 24)


def test_a_video_of_one_frame_fails_its_scene_and_not_the_run(
    bench: Path, scenes: list[BenchScene], clips: list[WorldClip], tmp_path: Path
) -> None:
    path = MethodFolder(tmp_path).video("simple", scenes[0].scene_id)
    path.parent.mkdir()
    write_mp4(path, clips[0].frames[:1].permute(0, 2, 3, 1).numpy(), 16)
    one: dict[str, Any] = {"metrics": ("camera", "truth", "temporal", "vbench"), "scenes": [scenes[0].scene_id]}
    summary = run(bench, tmp_path, tmp_path / "floors", **one)
    assert "at least 2 frames" in summary["failed"][0]["reason"]
    assert summary["splits"]["simple"]["all"]["truth"]["psnr"] is None
    assert scenes[0].scene_id in (tmp_path / "report.html").read_text()
