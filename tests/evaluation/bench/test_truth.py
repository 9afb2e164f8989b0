"""The true video of a scene of our own benchmark shows exactly what the benchmark's cameras and image say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.dataset import SPLITS, BenchScene, read_benchmark
from sana_wm.evaluation.bench.make import make_nano_bench
from sana_wm.evaluation.bench.nano.drawn_world import draw_world, surrounding_points
from sana_wm.evaluation.bench.nano.origin import DrawnOrigin, WalkedOrigin, read_origins
from sana_wm.evaluation.bench.truth import has_truth, true_clip
from sana_wm.evaluation.trajectory import clearances
from sana_wm.geometry.poses import relative_to_first
from sana_wm.worlds.clip import WorldClip
from sana_wm.worlds.procedural import Renderer
from tests.evaluation.bench.benches import write_bench

SIZE, FRAMES = (48, 80), 17
Clips = dict[str, tuple[BenchScene, WorldClip]]
"""By split, a scene and its true video."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("truth") / "drawn"
    make_nano_bench(root, scenes=1, seconds=1.0, size=SIZE, worlds=("procedural",))
    return root


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vizdoom")
    root = tmp_path_factory.mktemp("truth") / "walked"
    make_nano_bench(root, scenes=1, seconds=1.0, size=SIZE, worlds=("freedoom",))
    return root


@pytest.fixture(scope="module")
def clips(drawn: Path) -> Clips:
    scenes = {split: read_benchmark(drawn, split)[0] for split in SPLITS}
    return {split: (scene, truth(drawn, scene)) for split, scene in scenes.items()}


def truth(root: Path, scene: BenchScene, with_depth: bool = True) -> WorldClip:
    return true_clip(root, scene, device="cpu", renderer=Renderer(), with_depth=with_depth)


def check_clip(clip: WorldClip, scene: BenchScene, depth_accuracy: float) -> None:
    assert (clip.frames.shape, clip.frames.dtype) == ((FRAMES, 3, *SIZE), torch.uint8)
    assert clip.depth is not None
    assert clip.depth.shape == (FRAMES, *SIZE)
    assert clip.caption == scene.prompt
    with Image.open(scene.image_path) as image:
        assert np.array_equal(clip.frames[0].permute(1, 2, 0).numpy(), np.asarray(image))
    torch.testing.assert_close(relative_to_first(clip.c2w.double()), scene.c2w, atol=2e-5, rtol=0)
    assert torch.equal(clip.intrinsics.double(), scene.intrinsics)
    middle = clip.depth[FRAMES // 2]
    assert float(middle[torch.isfinite(middle)].min()) > depth_accuracy


@pytest.mark.parametrize("split", SPLITS)
def test_a_procedural_truth_has_the_benchmarks_image_and_cameras(drawn: Path, clips: Clips, split: str) -> None:
    assert has_truth(drawn, split)
    scene, clip = clips[split]
    check_clip(clip, scene, depth_accuracy=0.5)
    assert not torch.equal(clip.frames[0], clip.frames[-1])


def test_a_truth_is_the_same_every_time(drawn: Path, clips: Clips) -> None:
    scene, clip = clips["hard"]
    again = truth(drawn, scene, with_depth=False)
    assert torch.equal(again.frames, clip.frames)
    assert again.depth is None


def test_both_splits_share_the_image_and_the_world(clips: Clips) -> None:
    simple, hard = (clip for _, clip in clips.values())
    assert torch.equal(simple.frames[0], hard.frames[0])
    assert torch.equal(simple.c2w[0], hard.c2w[0])
    assert not torch.equal(simple.c2w[-1], hard.c2w[-1])


@pytest.mark.parametrize("split", SPLITS)
def test_a_freedoom_truth_has_the_benchmarks_image_and_cameras(walked: Path, split: str) -> None:
    (scene,) = read_benchmark(walked, split)
    clip = truth(walked, scene)
    check_clip(clip, scene, depth_accuracy=0.3)
    assert not torch.equal(clip.frames[0], clip.frames[-1])
    again = truth(walked, scene, with_depth=False)
    assert torch.equal(again.frames, clip.frames)
    assert torch.equal(again.c2w, clip.c2w)


@pytest.mark.parametrize("split", SPLITS)
def test_a_procedural_path_keeps_clear_of_everything_in_its_scene(drawn: Path, split: str) -> None:
    for scene in read_benchmark(drawn, split):
        origin = read_origins(drawn, split)[scene.scene_id]
        assert isinstance(origin, DrawnOrigin)
        world = draw_world(origin.seed, origin.laid_out_for)
        points = surrounding_points(world, scene.c2w[::8, :3, 3], Renderer(samples=1))
        nearest = float(clearances(scene.c2w[::8], points).min())
        assert nearest >= 0.15 * origin.scale * 0.99
        assert nearest == pytest.approx(origin.clearance, abs=0.15)


def test_a_walk_follows_its_plan_and_stays_level(walked: Path) -> None:
    for split in SPLITS:
        (scene,) = read_benchmark(walked, split)
        origin = read_origins(walked, split)[scene.scene_id]
        assert isinstance(origin, WalkedOrigin)
        assert origin.course.level
        assert origin.course.template == scene.trajectory_id == origin.dealt
        planned = origin.course.path(FRAMES, origin.scale)
        offset = (scene.c2w - planned)[:, :3, 3]
        assert float(offset[:, [0, 2]].norm(dim=1).max()) < 0.05
        turned = (scene.c2w[:, :3, :3] - planned[:, :3, :3]).abs().max()
        assert float(turned) < 0.005
        assert torch.allclose(scene.c2w[:, 1, :3], torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), atol=1e-6)


def test_another_benchmark_has_no_truth(tmp_path: Path) -> None:
    root = tmp_path / "bench"
    write_bench(root, ("indoor_001",))
    assert not has_truth(root, "hard_60s")
    with pytest.raises(InputError, match=r"'.*worlds.json' is missing, so nothing is known of the true videos"):
        truth(root, read_benchmark(root, "hard")[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"worlds.json of '.*', split hard, does not hold the scene indoor_001"),
        ([], r"world file '.*' is no object of scenes"),
        ({"indoor_001": {"world": "moon"}}, r"scene indoor_001 of world file '.*' has the world 'moon'"),
        ({"indoor_001": {"world": "procedural", "seed": 1}}, r"scene indoor_001 of world file '.*': missing setting"),
    ],
)
def test_a_broken_world_file_is_named(tmp_path: Path, content: object, message: str) -> None:
    root = tmp_path / "bench"
    write_bench(root, ("indoor_001",))
    (root / SPLITS["hard"] / "worlds.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        truth(root, read_benchmark(root, "hard")[0])


def test_a_walk_that_comes_out_differently_is_refused(walked: Path) -> None:
    (scene,) = read_benchmark(walked, "hard")
    bent = scene.c2w.clone()
    bent[10:, 0, 3] += 0.01
    changed = BenchScene(**{**vars(scene), "c2w": bent})
    with pytest.raises(InputError, match="the walk of indoor_001, split hard, comes out differently here"):
        truth(walked, changed)
