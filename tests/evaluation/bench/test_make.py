"""Our own benchmark has exactly the published layout, follows from its seed, and is made whole or not at all."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.dataset import SPLITS, read_benchmark
from sana_wm.evaluation.bench.make import BenchSettings, make_nano_bench, make_scene
from sana_wm.evaluation.bench.nano.courses import Course
from sana_wm.evaluation.bench.nano.deal import CATEGORIES, LEVEL_HARD, deal, first_index
from sana_wm.evaluation.bench.nano.origin import DrawnOrigin, MadePath, MadeScene
from sana_wm.evaluation.bench.nano.write import publish, write_scene
from sana_wm.evaluation.held_out import FREEDOOM, PROCEDURAL
from sana_wm.evaluation.minute import SCENE_INDEX
from sana_wm.evaluation.revisit import find_pairs
from sana_wm.worlds.splits import PROCEDURAL_SEEDS

SIZE, SCENES, FRAMES = (48, 80), 3, 17
BOTH = (PROCEDURAL, FREEDOOM)


def make(root: Path, progress: Callable[[int], None] | None = None, **changed: object) -> Path:
    settings = {"scenes": SCENES, "seconds": 1.0, "size": SIZE, "worlds": (PROCEDURAL,), **changed}
    make_nano_bench(root, progress=progress, **settings)  # type: ignore[arg-type]
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "bench")


def test_the_files_are_those_of_the_published_layout(bench: Path) -> None:
    ids = ("town_001", "nature_001", "shapes_001")
    expected = {"nano_bench.json", "scene_set/kept_scenes.txt", *(f"images/{scene}.png" for scene in ids)}
    for folder in SPLITS.values():
        expected |= {f"{folder}/{name}" for name in ("scene_trajectories_v2.json", "worlds.json")}
        expected |= {f"{folder}/sanawm_export_v2/{name}" for name in ("run_manifest.jsonl", *(f"{i}.npz" for i in ids))}
    assert contents(bench).keys() == expected
    assert (bench / "scene_set" / "kept_scenes.txt").read_text() == "".join(f"{scene}\n" for scene in ids)
    for scene in ids:
        with Image.open(bench / "images" / f"{scene}.png") as image:
            assert (image.size, image.mode) == (SIZE[::-1], "RGB")


@pytest.mark.parametrize("split", SPLITS)
def test_camera_files_and_lists_hold_what_the_published_ones_do(bench: Path, split: str) -> None:
    folder = bench / SPLITS[split]
    rows = [json.loads(line) for line in (folder / "sanawm_export_v2/run_manifest.jsonl").read_text().splitlines()]
    entries = json.loads((folder / "scene_trajectories_v2.json").read_text())["scenes"]
    for row, entry in zip(rows, entries, strict=True):
        scene = row["id"]
        assert {key: row[key] for key in row if key not in ("prompt", "trajectory_id")} == {
            "id": scene,
            "image_path": f"images/{scene}.png",
            "camera_path": f"{SPLITS[split]}/sanawm_export_v2/{scene}.npz",
            "scene_type": scene.rsplit("_", 1)[0],
            "sanawm_frames": FRAMES,
            "expected_fps": 16.0,
            "expected_video_frames": FRAMES - 1,
            "trim_to_frames": FRAMES - 1,
        }
        assert entry.keys() == {"scene_id", "trajectory_id", "prompt", "evaluation_pairs"}
        assert (entry["scene_id"], entry["trajectory_id"]) == (scene, row["trajectory_id"])
        with np.load(folder / "sanawm_export_v2" / f"{scene}.npz", allow_pickle=False) as arrays:
            assert {name: (arrays[name].shape, arrays[name].dtype) for name in arrays.files} == {
                "c2w": ((FRAMES, 4, 4), np.float32),
                "intrinsics": ((FRAMES, 3, 3), np.float32),
                "fps": ((), np.float64),
                "num_frames": ((), np.int64),
            }
            assert (arrays["fps"], arrays["num_frames"]) == (16, FRAMES)
            assert np.array_equal(arrays["c2w"][0], np.eye(4))


def test_what_was_made_is_what_is_read(bench: Path) -> None:
    dealt = deal(SCENES, (PROCEDURAL,))
    made = make_scene(dealt[1], BenchSettings(SCENES, FRAMES, SIZE, 0, ("simple", "hard"), (PROCEDURAL,)))
    for split in SPLITS:
        scene = read_benchmark(bench, split)[1]
        assert (scene.scene_id, scene.category) == ("nature_001", "nature")
        assert torch.equal(scene.c2w, made.paths[split].c2w)
        assert torch.equal(scene.intrinsics, made.intrinsics.double().expand(FRAMES, 4))
        assert scene.prompt == made.paths[split].prompt
        with Image.open(scene.image_path) as image:
            assert np.array_equal(np.asarray(image), made.image.permute(1, 2, 0).numpy())


def test_a_scene_is_the_same_whatever_else_is_made(bench: Path, tmp_path: Path) -> None:
    few = make(tmp_path / "few", scenes=1, splits=("hard",), workers=1)
    assert not (few / SPLITS["simple"]).exists()
    for name in ("images/town_001.png", f"{SPLITS['hard']}/sanawm_export_v2/town_001.npz"):
        assert (few / name).read_bytes() == (bench / name).read_bytes()
    assert read_benchmark(few, "hard")[0].prompt == read_benchmark(bench, "hard")[0].prompt


def test_an_interrupted_benchmark_is_finished_with_the_same_bytes(bench: Path, tmp_path: Path) -> None:
    root = tmp_path / "bench"

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(root, progress=stop)
    with pytest.raises(InputError):
        read_benchmark(root, "simple")
    (root / "unfinished" / ".partial_nature_001").mkdir()  # what a kill in the middle of a scene leaves
    counted: list[int] = []
    make(root, progress=counted.append)
    assert counted == [2, 3]
    assert contents(root) == contents(bench)


def test_a_finished_benchmark_is_left_alone(bench: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bench.rglob("*")}
    counted: list[int] = []
    make(bench, progress=counted.append)
    assert counted == [SCENES]
    assert {path: path.stat().st_mtime_ns for path in bench.rglob("*")} == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "made with seed = 0, not 1"),
        ({"seconds": 2.0}, "made with num_frames = 17, not 33"),
        ({"size": (64, 80)}, r"made with size = \[48, 80\], not \[64, 80\]"),
        ({"splits": ("hard",)}, "made with splits"),
        ({"scenes": 4}, "made with scenes = 3, not 4"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(bench: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(bench, **changed)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files, but no benchmark made here"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scenes": 0}, "scenes is 0; a benchmark holds 1 to 80"),
        ({"scenes": 81}, "scenes is 81"),
        ({"seconds": 0.5}, "seconds is 0.5; it must lie between 1 and 600"),
        ({"size": (8, 80)}, r"size is \(8, 80\)"),
        ({"seed": 100}, "seed is 100; it must lie between 0 and 99"),
        ({"splits": ("easy",)}, "split is 'easy'"),
        ({"splits": ()}, "splits is empty"),
        ({"worlds": ("minecraft",)}, r"worlds is \('minecraft',\)"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path / "bench", **changed)
    assert not (tmp_path / "bench").exists()


def test_a_missing_game_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with pytest.raises(InputError, match=r"vizdoom.*\[worlds\]"):
        make(tmp_path / "bench", worlds=BOTH)
    assert not (tmp_path / "bench").exists()


def test_revisit_pairs_are_stored_and_never_use_the_first_frame(tmp_path: Path) -> None:
    course = Course("whip_pan", laps=2)
    c2w = course.path(961, 7.0).float().double()
    origin = DrawnOrigin("procedural", 1, (course,), course, 7.0, 1.5, 1)
    image = torch.zeros(3, *SIZE, dtype=torch.uint8)
    made = MadeScene(image, torch.tensor([60.0, 60.0, 39.5, 23.5]), {"hard": MadePath(c2w, "a place", origin)})
    dealt = deal(1, (PROCEDURAL,))[0]
    write_scene(tmp_path / "parts" / dealt.scene_id, dealt, made, ("hard",))
    publish(tmp_path / "bench", tmp_path / "parts", [dealt.scene_id], ("hard",))
    (scene,) = read_benchmark(tmp_path / "bench", "hard")
    assert scene.trajectory_id == "whip_pan"
    assert scene.pairs == find_pairs(c2w)
    assert len(scene.pairs) >= 10
    assert min(pair.frame_a for pair in scene.pairs) > 0
    entry = json.loads((tmp_path / "bench" / SPLITS["hard"] / "scene_trajectories_v2.json").read_text())["scenes"][0]
    assert entry["evaluation_pairs"][0].keys() == {
        "frame_a", "frame_b", "distance_m", "angle_diff_deg", "quality_score",
    }  # fmt: skip


def test_eighty_scenes_are_twenty_a_category_and_eight_a_template() -> None:
    dealt = deal(80, BOTH)
    assert Counter(one.category.name for one in dealt) == dict.fromkeys((c.name for c in CATEGORIES), 20)
    assert [one.scene_id for one in dealt[:20]] == [f"town_{i:03d}" for i in range(1, 21)]
    for split in SPLITS:
        counts = Counter(one.templates[split] for one in dealt)
        assert len(counts) == 10
        assert set(counts.values()) == {8}
    assert {one.templates["hard"] for one in dealt if one.category.world == FREEDOOM} == set(LEVEL_HARD)


def test_few_scenes_are_spread_over_the_categories_and_are_those_of_a_whole_benchmark() -> None:
    whole = {one.scene_id: one for one in deal(80, BOTH)}
    for count in (1, 6, 8):
        few = deal(count, BOTH)
        assert len(few) == count
        assert max(Counter(one.category.name for one in few).values()) <= -(-count // 4)
        assert all(whole[one.scene_id] == one for one in few)


def test_every_scene_of_every_seed_has_its_own_test_seeds() -> None:
    drawn = [one for one in deal(80, (PROCEDURAL,)) if one.category.world == PROCEDURAL]
    first = sorted(first_index(one, seed) for seed in (0, 1, 99) for one in drawn)
    assert min(np.diff(first)) >= 64
    assert first[0] > SCENE_INDEX
    assert first[-1] + 64 <= len(PROCEDURAL_SEEDS["test"])
