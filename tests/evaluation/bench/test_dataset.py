"""A benchmark in the published layout is read, in part or whole, and every fault is named by file and scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.dataset import SPLITS, BenchScene, check_published, read_benchmark
from sana_wm.evaluation.revisit import RevisitPair
from tests.evaluation.bench.benches import (
    FRAMES,
    HEIGHT,
    WIDTH,
    read_manifest,
    write_bench,
    write_camera,
    write_manifest,
)

IDS = ("game_style_001", "game_style_002", "indoor_001", "outdoor-city_003")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_bench(tmp_path / "bench", IDS)
    return tmp_path / "bench"


def camera(root: Path, scene: str = "indoor_001", split: str = "hard") -> Path:
    return root / SPLITS[split] / "sanawm_export_v2" / f"{scene}.npz"


def test_scenes_are_read_in_the_order_of_the_scene_set(root: Path) -> None:
    write_manifest(root, "hard", read_manifest(root, "hard")[::-1])
    scenes = read_benchmark(root, "hard")
    assert [scene.scene_id for scene in scenes] == list(IDS)
    assert [scene.category for scene in scenes] == ["game_style", "game_style", "indoor", "outdoor-city"]
    one = scenes[2]
    assert (one.split, one.trajectory_id, one.prompt, one.fps) == ("hard", "forward", "indoor_001 in hard", 16.0)
    assert one.image_path == root / "images" / "indoor_001.png"
    assert (one.c2w.shape, one.c2w.dtype) == ((FRAMES, 4, 4), torch.float64)
    assert one.c2w[-1, 2, 3] == 1.0
    assert (one.intrinsics.shape, one.intrinsics.dtype) == ((FRAMES, 4), torch.float64)
    assert one.intrinsics[5].tolist() == [30.0, 30.0, WIDTH / 2, HEIGHT / 2]
    assert one.pairs == [RevisitPair(3, 90, 0.2, 0.0, 0.4)]


def test_splits_have_short_names_and_the_releases(root: Path) -> None:
    for name, released in (("simple", "simple_60s"), ("hard", "hard_60s")):
        assert [s.prompt for s in read_benchmark(root, name)] == [s.prompt for s in read_benchmark(root, released)]
    with pytest.raises(InputError, match=r"split is 'easy'; it must be one of simple, hard, simple_60s, hard_60s"):
        read_benchmark(root, "easy")


def test_some_scenes_can_be_read_without_the_files_of_the_others(root: Path) -> None:
    camera(root, "game_style_002").unlink()
    (root / "images" / "game_style_002.png").unlink()
    named = read_benchmark(root, "hard", ["indoor_001", "game_style_001"])
    assert [scene.scene_id for scene in named] == ["game_style_001", "indoor_001"]
    few = read_benchmark(root, "hard", 3)
    assert [scene.category for scene in few] == ["game_style", "indoor", "outdoor-city"]
    with pytest.raises(InputError, match=r"image_path of scene game_style_002 of '.*run_manifest.jsonl'.* is no file"):
        read_benchmark(root, "hard")
    with pytest.raises(InputError, match=r"the scene 'indoor_009' is asked for; '.*kept_scenes.txt' names"):
        read_benchmark(root, "hard", ["indoor_009"])
    with pytest.raises(InputError, match="no scene is asked for"):
        read_benchmark(root, "hard", [])
    with pytest.raises(InputError, match=r"5 scenes are asked for; .* names 1 to 4"):
        read_benchmark(root, "hard", 5)


def test_the_trajectory_file_may_know_scenes_that_were_not_kept(root: Path) -> None:
    kept = root / "scene_set" / "kept_scenes.txt"
    kept.write_text("".join(f"{scene}\n" for scene in IDS[:2]))
    write_manifest(root, "hard", read_manifest(root, "hard")[:2])
    assert [scene.scene_id for scene in read_benchmark(root, "hard")] == list(IDS[:2])


def changed_row(key: str, value: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        rows = read_manifest(root, "hard")
        rows[2][key] = value
        write_manifest(root, "hard", rows)

    return change


def changed_camera(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda root: write_camera(camera(root), **arrays)


def changed_pair(**values: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / SPLITS["hard"] / "scene_trajectories_v2.json"
        content = json.loads(path.read_text())
        content["scenes"][2]["evaluation_pairs"][0].update(values)
        path.write_text(json.dumps(content))

    return change


def poses(frame: int, row: int, column: int, value: float) -> np.ndarray:
    c2w = np.repeat(np.eye(4)[None], FRAMES, axis=0)
    c2w[frame, row, column] = value
    return c2w


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_camera(c2w=poses(7, 0, 3, np.nan)), r"c2w of camera file '.*001.npz' of scene indoor_001, frame 7"),
        (changed_camera(c2w=poses(8, 0, 0, 1.01)), r"camera file '.*' of scene indoor_001, frame 8, .* no rotation"),
        (changed_camera(c2w=poses(0, 0, 0, 1.0)[0]), r"c2w of camera file '.*' of scene indoor_001 has shape \(4, 4\)"),
        (changed_camera(intrinsics=np.ones((FRAMES, 4))), r"intrinsics of camera file '.*' of scene indoor_001 has"),
        (changed_camera(intrinsics=np.zeros((FRAMES, 3, 3))), r"intrinsics of camera file .* of scene indoor_001, fr"),
        (changed_camera(intrinsics=np.repeat(np.eye(3)[None], FRAMES, 0)), r"scene indoor_001 give the 32x18 image"),
        (changed_camera(fps=np.array(0)), r"fps of camera file '.*' of scene indoor_001 is 0"),
        (changed_camera(num_frames=np.array(961)), r"num_frames of camera file '.*' of scene indoor_001 is 961"),
        (lambda root: write_camera(camera(root), 95), r"scene indoor_001 of '.*hard_60s' has 95 poses at 16 fps"),
        (lambda root: camera(root).unlink(), r"camera_path of scene indoor_001 of '.*run_manifest.jsonl'"),
        (lambda root: camera(root).write_bytes(b"no"), r"camera file of scene indoor_001, '.*npz' is not a NumPy"),
        (lambda root: np.savez(camera(root), c2w=poses(0, 0, 0, 1)), r"'.*' of scene indoor_001 holds no 'intrinsics'"),
        (lambda root: (root / "images/indoor_001.png").write_bytes(b"x"), r"'.*001.png' of scene indoor_001 can"),
        (changed_row("prompt", " "), r"prompt of scene indoor_001 of '.*run_manifest.jsonl' is ' '"),
        (changed_row("trajectory_id", 3), r"trajectory_id of scene indoor_001 of '.*run_manifest.jsonl' is 3"),
        (changed_row("image_path", "../secret.png"), r"image_path of scene indoor_001 .* '../secret.png'; it must"),
        (changed_row("camera_path", "/etc/passwd"), r"camera_path of scene indoor_001 .*; it must be a path within"),
        (changed_row("id", "indoor_007"), r"'.*run_manifest.jsonl' lacks the scene indoor_001, which .* names"),
        (changed_row("id", "game_style_001"), r"'.*run_manifest.jsonl' holds the scene game_style_001 twice"),
        (changed_row("id", None), r"entry 2 of '.*run_manifest.jsonl' is no object with a text 'id'"),
        (changed_pair(frame_b=FRAMES), r"revisit pair 0 of scene indoor_001 in '.*v2.json' is frames 3 and 100"),
        (changed_pair(frame_a=0), r"revisit pair 0 of scene indoor_001 in '.*v2.json' is frames 0 and 90"),
        (changed_pair(frame_a="3"), r"revisit pair 0 of scene indoor_001 in '.*v2.json' has frame_a = '3'"),
    ],
)  # fmt: skip
def test_every_fault_is_named_by_file_and_scene(root: Path, change: Callable[[Path], None], message: str) -> None:
    change(root)
    with pytest.raises(InputError, match=message):
        read_benchmark(root, "hard")
    assert len(read_benchmark(root, "simple", ["game_style_001"])) == 1


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("scene_set/kept_scenes.txt", None, r"scene set '.*kept_scenes.txt' cannot be read"),
        ("scene_set/kept_scenes.txt", "\n", "names no scene"),
        ("scene_set/kept_scenes.txt", "indoor\n", "names 'indoor'; an id must be"),
        ("scene_set/kept_scenes.txt", "indoor_001\nindoor_001\n", "names indoor_001 twice"),
        ("scene_set/kept_scenes.txt", "indoor_001\n", "holds the scene game_style_001, which .* does not name"),
        (f"{SPLITS['hard']}/sanawm_export_v2/run_manifest.jsonl", "{", r"line 1 of manifest '.*' is no JSON"),
        (f"{SPLITS['hard']}/scene_trajectories_v2.json", "[]", r"'.*v2.json' is no object with a list 'scenes'"),
        (
            f"{SPLITS['hard']}/scene_trajectories_v2.json",
            '{"scenes": []}',
            r"'.*v2.json' lacks the scene game_style_001",
        ),
    ],
)
def test_broken_lists_are_named(root: Path, file: str, text: str | None, message: str) -> None:
    if text is None:
        (root / file).unlink()
    else:
        (root / file).write_text(text)
    with pytest.raises(InputError, match=message):
        read_benchmark(root, "hard")


def test_a_folder_without_the_split_is_refused(tmp_path: Path) -> None:
    write_bench(tmp_path / "bench", IDS[:1], splits=("simple",))
    with pytest.raises(InputError, match="holds no folder benchmark_v2_hard_60s"):
        read_benchmark(tmp_path / "bench", "hard")


def test_only_the_whole_published_benchmark_is_taken_for_it(tmp_path: Path) -> None:
    def scenes(each: int, frames: int = 961) -> list[BenchScene]:
        c2w = torch.eye(4, dtype=torch.float64).expand(frames, 4, 4)
        lens = torch.ones(frames, 4, dtype=torch.float64)
        ids = [f"{category}_{i:03d}" for category in ("game", "indoor", "city", "nature") for i in range(each)]
        return [BenchScene(i, i[:-4], "hard", "forward", tmp_path, "a", c2w, lens, 16.0, []) for i in ids]

    check_published(scenes(20))
    with pytest.raises(InputError, match=r"holds 76 scenes, by category \{'game': 19"):
        check_published(scenes(19))
    with pytest.raises(InputError, match="scene game_000 has 81 poses"):
        check_published(scenes(20, frames=81))
