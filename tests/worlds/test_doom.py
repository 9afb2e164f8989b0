"""Promises of the Doom world: exact cameras, repeatable clips, disjoint splits, plain errors."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.worlds.clip import WorldClip
from sana_wm.worlds.doom import DoomWorld, stream_clips
from sana_wm.worlds.doom.camera import camera_to_world, choose_lens
from sana_wm.worlds.doom_maps import DOOM_MAPS

SIZE = (96, 160)


@pytest.fixture(scope="module")
def clips() -> Iterator[list[WorldClip]]:
    pytest.importorskip("vizdoom")
    with DoomWorld(*SIZE, split="train", seed=3, clips_per_level=2) as world:
        rng = np.random.default_rng(3)
        yield [world.clip(17, rng, with_depth=True) for _ in range(4)]


def test_clip_has_the_shapes_and_types_of_a_world_clip(clips: list[WorldClip]) -> None:
    for clip in clips:
        assert clip.frames.shape == (17, 3, *SIZE)
        assert clip.frames.dtype == torch.uint8
        assert clip.c2w.shape == (17, 4, 4)
        assert clip.intrinsics.shape == (17, 4)
        assert clip.depth is not None
        assert clip.depth.shape == (17, *SIZE)
        assert clip.c2w.dtype == clip.intrinsics.dtype == clip.depth.dtype == torch.float32


def test_cameras_are_rigid_level_and_walk_at_the_pace_of_a_person(clips: list[WorldClip]) -> None:
    for clip in clips:
        rotation = clip.c2w[:, :3, :3]
        torch.testing.assert_close(
            rotation.transpose(1, 2) @ rotation, torch.eye(3).expand(17, 3, 3), atol=1e-5, rtol=0
        )
        assert (torch.linalg.det(rotation) > 0.999).all()
        # The picture's "down" is the world's +Y, along gravity.
        torch.testing.assert_close(rotation[:, :, 1], torch.tensor([0.0, 1.0, 0.0]).expand(17, 3), atol=1e-6, rtol=0)
        assert (clip.c2w[1:, :3, 3] - clip.c2w[:-1, :3, 3]).norm(dim=1).max() < 0.3
        cosine = (rotation[1:, :, 2] * rotation[:-1, :, 2]).sum(-1).clamp(-1, 1)
        assert torch.rad2deg(torch.acos(cosine)).max() < 3.0


def test_frames_show_something(clips: list[WorldClip]) -> None:
    for clip in clips:
        pixels = clip.frames.float()
        assert pixels.mean() > 20
        assert (pixels.std(dim=(1, 2, 3)) > 8).all()
        assert (pixels[0] - pixels[-1]).abs().mean() > 0.5


def test_captions_describe_the_scene_and_never_the_camera(clips: list[WorldClip]) -> None:
    for clip in clips:
        words = clip.caption.lower().replace(",", " ").replace(".", " ").split()
        assert 8 <= len(words) <= 35
        assert not {"camera", "moves", "moving", "walks", "walking", "turns", "turning", "pans", "forward"} & set(words)


def test_camera_predicts_where_pixels_go_and_wrong_cameras_do_not() -> None:
    pytest.importorskip("vizdoom")
    from benchmarks.doom_reprojection import CAMERAS, measure, take_pairs

    pairs = take_pairs(["MAP01", "E1M1"], pairs=3, seed=1)
    assert len(pairs) >= 4
    median = {name: measure(pairs, camera)[0].median().item() for name, camera in CAMERAS.items()}
    right = measure(pairs, CAMERAS["as delivered"])[0]
    assert median["as delivered"] < 0.4
    assert (right < 1).float().mean() > 0.85
    for name in ("yaw mirrored", "translation mirrored", "one tic late", "focal length +10 %"):
        assert median[name] > 1.0, name
    # Heights show only where the camera moves up or down, which half of the pairs do.
    tall = measure(pairs, CAMERAS["pixels 1.2 times too tall"])[0]
    assert (tall < 1).float().mean() < (right < 1).float().mean() - 0.1


def test_heading_east_and_north_follow_the_world_axes() -> None:
    east, north = camera_to_world(32, 64, 32, 0.0), camera_to_world(0, 0, 0, np.pi / 2)
    np.testing.assert_allclose(east[:3, 2], (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(east[:3, 0], (0, 0, -1), atol=1e-6)
    np.testing.assert_allclose(east[:3, 3], (1, -1.2, 2), atol=1e-6)
    np.testing.assert_allclose(north[:3, 2], (0, 0, 1), atol=1e-6)


def test_lens_averages_whole_screen_pixels_and_keeps_the_field_of_view() -> None:
    for height, width in ((192, 320), (180, 320), (96, 160), (256, 256), (480, 832)):
        lens = choose_lens(width, height)
        assert lens.screen_width >= lens.scale * width
        assert lens.screen_height >= lens.scale * height
        fx, fy, cx, cy = lens.intrinsics(lens.game_fov(75.0))
        assert fx == fy
        assert (cx, cy) == ((width - 1) / 2, (height - 1) / 2)
        assert 2 * np.degrees(np.arctan(width / 2 / fx)) == pytest.approx(75.0, abs=0.1)
        screen = np.full((3, lens.screen_height, lens.screen_width), 255, np.uint8)
        assert lens.shrink(screen).shape == (3, height, width)
        assert (lens.shrink(screen) == 255).all()


def test_fast_shrink_equals_the_plain_mean_of_boxes() -> None:
    lens = choose_lens(320, 192)
    assert (lens.screen_width, lens.screen_height, lens.scale) == (640, 400, 2)
    screen = np.random.default_rng(0).integers(0, 256, (3, 400, 640), dtype=np.uint8)
    mean = screen[:, 8:392].reshape(3, 192, 2, 320, 2).mean(axis=(2, 4))
    expected = 255 * (mean / 255) ** (1 / 1.4)
    np.testing.assert_allclose(lens.shrink(screen), expected, atol=0.51)


def test_equal_seeds_give_equal_clips() -> None:
    pytest.importorskip("vizdoom")
    first, second = (list(itertools.islice(stream_clips("validation", 5, 5, *SIZE), 3)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.frames, b.frames)
        assert torch.equal(a.c2w, b.c2w)
        assert (a.caption, a.name) == (b.caption, b.name)


def test_splits_share_no_level() -> None:
    for a, b in itertools.combinations(DOOM_MAPS.values(), 2):
        assert not set(a) & set(b)
    assert set(DOOM_MAPS) == {"train", "validation", "test"}


def test_crashed_engine_is_started_again_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("vizdoom")
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("needs Linux to find the engine's process")
    before = set(_children())
    with DoomWorld(*SIZE, split="validation", seed=1) as world:
        rng = np.random.default_rng(1)
        world.clip(3, rng)
        for process in set(_children()) - before:
            os.kill(process, signal.SIGKILL)
        with caplog.at_level(logging.WARNING):
            clip = world.clip(3, rng)
    assert clip.frames.shape[0] == 3
    assert "started again" in caplog.text


def _children() -> list[int]:
    """Processes started by any thread of this one."""
    return [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]


def test_missing_vizdoom_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with DoomWorld(*SIZE) as world, pytest.raises(InputError, match=r"vizdoom.*\[worlds\]"):
        world.clip(3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "dev"}, "split"),
        ({"height": 2}, "size"),
        ({"width": 9999}, "size"),
        ({"horizontal_fov_deg": (90, 20)}, "fov"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        DoomWorld(**arguments)  # type: ignore[arg-type]


def test_wrong_number_of_frames_is_named() -> None:
    with DoomWorld(*SIZE) as world, pytest.raises(InputError, match="num_frames"):
        world.clip(0, np.random.default_rng(0))
