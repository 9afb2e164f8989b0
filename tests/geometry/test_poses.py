"""Pose files are read as they are or refused with the frame at fault; re-basing and frame counts are exact."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.actions import rollout
from sana_wm.geometry.poses import (
    check_poses,
    compose,
    inverse_rigid,
    load_pose_file,
    load_poses,
    opengl_to_opencv,
    relative_to_first,
    snap_num_frames,
)


@pytest.fixture
def path_of_poses() -> Tensor:
    return rollout("wd-6,il-5")


def saved(folder: Path, array: object) -> Path:
    path = folder / "poses.npy"
    np.save(path, array)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
def test_npy_poses_come_back_as_they_were(tmp_path: Path, path_of_poses: Tensor, dtype: Any) -> None:
    loaded = load_poses(saved(tmp_path, path_of_poses.numpy().astype(dtype)))
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, path_of_poses)


def test_a_benchmark_file_gives_poses_intrinsics_and_rate(tmp_path: Path, path_of_poses: Tensor) -> None:
    path = tmp_path / "scene.npz"
    K = np.tile(np.array([[600, 0, 320], [0, 610, 176], [0, 0, 1.0]]), (12, 1, 1))
    np.savez(path, c2w=path_of_poses.numpy(), intrinsics=K, fps=16, num_frames=12, scene="a name")
    scene = load_pose_file(path)
    assert torch.equal(scene.c2w, path_of_poses)
    assert scene.fps == 16.0
    assert scene.intrinsics is not None
    assert np.array_equal(scene.intrinsics, K)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"num_frames": 13}, "num_frames = 13 but holds 12"),
        ({"fps": 0}, "fps.* is 0;"),
        ({"fps": [16, 16]}, "fps.*one finite number"),
        ({"num_frames": np.nan}, "num_frames"),
    ],
)
def test_a_benchmark_file_that_contradicts_itself_is_refused(
    tmp_path: Path, path_of_poses: Tensor, extra: dict[str, Any], message: str
) -> None:
    path = tmp_path / "scene.npz"
    np.savez(path, c2w=path_of_poses.numpy(), **extra)
    with pytest.raises(InputError, match=message):
        load_pose_file(path)


def test_an_npz_without_poses_names_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", poses=np.eye(4)[None])
    with pytest.raises(InputError, match=r"\['poses'\]; it must hold 'c2w'"):
        load_poses(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(4, 4), (3, 3, 4), (2, 16), (0, 4, 4), (1, 1, 4, 4)])
def test_other_shapes_are_refused_by_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        load_poses(saved(tmp_path, np.zeros(shape)))
    with pytest.raises(InputError, match="frames, 4, 4"):
        check_poses(np.zeros(shape))


def mirrored(pose: Tensor) -> None:
    pose[:3, 0] *= -1


def stretched(pose: Tensor) -> None:
    pose[:3, :3] *= 1.01


def sheared(pose: Tensor) -> None:
    pose[:3, 0] += 0.01 * pose[:3, 1]


def transposed(pose: Tensor) -> None:
    pose[:] = pose.T.clone() + 0.1 * torch.eye(4).roll(1, 0)


def not_a_number(pose: Tensor) -> None:
    pose[0, 3] = float("nan")


def endless(pose: Tensor) -> None:
    pose[2, 3] = float("inf")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (mirrored, "left-handed"),
        (stretched, "no rotation"),
        (sheared, "no rotation"),
        (transposed, "bottom row"),
        (not_a_number, "not finite"),
        (endless, "not finite"),
    ],
)
def test_a_pose_that_is_not_rigid_is_refused_and_its_frame_named(
    path_of_poses: Tensor, spoil: Callable[[Tensor], None], complaint: str
) -> None:
    spoil(path_of_poses[7])
    with pytest.raises(InputError, match=f"my path, frame 7, .*{complaint}"):
        check_poses(path_of_poses, "my path")


def test_a_translation_too_large_for_float32_is_refused() -> None:
    poses = np.eye(4)[None].repeat(2, 0)
    poses[1, 0, 3] = 1e200
    with pytest.raises(InputError, match="frame 1"):
        check_poses(poses)


def test_rounding_noise_is_accepted(path_of_poses: Tensor) -> None:
    noisy = path_of_poses.clone()
    noisy[:, :3, :3] += 2e-4 * torch.randn(len(noisy), 3, 3, generator=torch.Generator().manual_seed(0))
    check_poses(noisy)
    check_poses(path_of_poses.numpy().astype(np.float16))


@pytest.mark.parametrize("value", ["text", 1 + 2j, True, None])
def test_arrays_of_other_things_than_numbers_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="real numbers"):
        check_poses(np.full((1, 4, 4), value))


def test_opengl_poses_become_opencv_poses(tmp_path: Path, path_of_poses: Tensor) -> None:
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    path = saved(tmp_path, (path_of_poses @ flip).numpy())
    assert torch.equal(load_poses(path, convention="opengl"), path_of_poses)
    assert torch.equal(opengl_to_opencv(opengl_to_opencv(path_of_poses)), path_of_poses)


def test_unusually_fast_paths_are_loaded_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_poses(saved(tmp_path, rollout("wd-9", translation_speed=0.055, rotation_speed_deg=1.2).numpy()))
        load_poses(saved(tmp_path, np.eye(4)[None]))
    assert caplog.records == []
    for fast in (rollout("w-3", translation_speed=2.5), rollout("d-3", rotation_speed_deg=40.0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            load_poses(saved(tmp_path, fast.numpy()))
        assert "far above" in caplog.text


def test_the_first_pose_becomes_exactly_the_identity_and_motion_stays(path_of_poses: Tensor) -> None:
    moved = compose(rollout("d-90,w-50")[-1], path_of_poses)
    based = relative_to_first(moved)
    assert torch.equal(based[0], torch.eye(4))
    torch.testing.assert_close(based, relative_to_first(path_of_poses), atol=1e-5, rtol=0)
    batch = torch.stack((moved, path_of_poses))
    assert torch.equal(relative_to_first(batch)[0], based)


def test_the_rigid_inverse_undoes_a_pose(path_of_poses: Tensor) -> None:
    back = compose(inverse_rigid(path_of_poses), path_of_poses)
    torch.testing.assert_close(back, torch.eye(4).expand_as(back), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("requested", "available", "stride", "used"),
    [
        (161, 161, 8, 161),
        (161, 101, 8, 97),  # "w-100" gives 101 poses
        (325, 1000, 8, 329),  # ties go up
        (325, 328, 8, 321),  # unless the poses run out
        (6, 1000, 8, 9),
        (6, 6, 8, 1),
        (0, 50, 8, 1),
        (-3, None, 8, 1),
        (1, 1, 8, 1),
        (100, None, 24, 97),
        (13, None, 24, 25),
    ],
)
def test_frame_counts_are_snapped_to_the_strides_the_codec_can_hold(
    requested: int, available: int | None, stride: int, used: int
) -> None:
    assert snap_num_frames(requested, available, stride) == used


def test_frames_from_no_poses_are_refused() -> None:
    with pytest.raises(InputError):
        snap_num_frames(9, 0)
