"""Latent frames get the cameras of the right raw frames, in any batch, from stored clips as from live ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.actions import rollout
from sana_wm.geometry.conditions import (
    camera_conditions,
    chunk_plucker,
    latent_frame_indices,
    next_conditions,
    num_latent_frames,
    plucker_windows,
    told_from,
    training_conditions,
)
from sana_wm.geometry.poses import compose, relative_to_first
from sana_wm.geometry.rays import plucker_map, ray_from_world

TARGET_HW, LATENT_HW = (64, 96), (3, 5)


def clip(F: int = 17) -> tuple[Tensor, Tensor]:
    c2w = rollout([("w", "d")] * (F - 1))
    intrinsics = torch.tensor([80.0, 82.0, 47.0, 31.0]) + torch.arange(F)[:, None]
    return c2w, intrinsics


@pytest.mark.parametrize(("F", "T"), [(1, 1), (2, 1), (8, 1), (9, 2), (12, 2), (17, 3), (961, 121)])
def test_latent_frames_are_one_and_one_more_for_every_eight(F: int, T: int) -> None:
    assert num_latent_frames(F) == T
    assert latent_frame_indices(F).tolist() == list(range(0, F, 8))
    windows = plucker_windows(F)
    assert windows.shape == (T, 8)
    assert windows.max() <= F - 1


def test_windows_end_at_their_latent_frame_except_the_first_which_looks_ahead() -> None:
    windows = plucker_windows(25)
    assert windows[0].tolist() == list(range(8))
    assert windows[1:].tolist() == [list(range(8 * k - 7, 8 * k + 1)) for k in (1, 2, 3)]
    assert plucker_windows(3).tolist() == [[0, 1, 2, 2, 2, 2, 2, 2]]


def test_rows_hold_the_pose_and_the_intrinsics_in_latent_pixels() -> None:
    c2w, intrinsics = clip()
    conditions = camera_conditions(c2w, intrinsics, TARGET_HW, LATENT_HW)
    assert conditions.shape == (3, 20)
    assert torch.equal(conditions[1, :16].reshape(4, 4), c2w[8])
    expected = intrinsics[16] * torch.tensor([5 / 96, 3 / 64, 5 / 96, 3 / 64])
    torch.testing.assert_close(conditions[2, 16:], expected)


def test_plucker_channels_are_frame_major_direction_before_moment() -> None:
    c2w, intrinsics = clip()
    maps = chunk_plucker(c2w, intrinsics, TARGET_HW, LATENT_HW)
    assert maps.shape == (48, 3, 3, 5)
    latent_intrinsics = camera_conditions(c2w, intrinsics, TARGET_HW, LATENT_HW, 1)[:, 16:]
    for k, j in ((0, 0), (0, 7), (1, 0), (2, 7)):
        frame = plucker_windows(17)[k, j]
        expected = plucker_map(c2w[frame], latent_intrinsics[frame], *LATENT_HW)
        torch.testing.assert_close(maps[6 * j : 6 * j + 6, k], expected)


def test_a_batch_gives_what_its_items_give_on_any_leading_shape() -> None:
    c2w, intrinsics = clip()
    items = [(c2w, intrinsics), (c2w.flip(0), intrinsics.flip(0))]
    poses, rows = torch.stack([a for a, _ in items]), torch.stack([b for _, b in items])
    conditions = camera_conditions(poses[None], rows[None], TARGET_HW, LATENT_HW)
    maps = chunk_plucker(poses, rows, TARGET_HW, LATENT_HW)
    assert conditions.shape == (1, 2, 3, 20)
    assert maps.shape == (2, 48, 3, 3, 5)
    for index, item in enumerate(items):
        assert torch.equal(conditions[0, index], camera_conditions(*item, TARGET_HW, LATENT_HW))
        assert torch.equal(maps[index], chunk_plucker(*item, TARGET_HW, LATENT_HW))


def test_everything_is_float32_even_under_autocast_or_from_float64() -> None:
    c2w, intrinsics = clip(9)
    plain = chunk_plucker(c2w, intrinsics, TARGET_HW, LATENT_HW)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(chunk_plucker(c2w, intrinsics, TARGET_HW, LATENT_HW), plain)
    double = chunk_plucker(c2w.double(), intrinsics.double(), TARGET_HW, LATENT_HW)
    assert double.dtype == torch.float32
    assert torch.equal(double, plain)


@pytest.fixture
def tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.gpu
def test_a_gpu_gives_the_numbers_of_the_cpu_even_with_tf32_and_autocast(tf32: None) -> None:
    world, intrinsics = compose(rollout("a-40,w-30")[-1], clip()[0]), clip()[1]

    def tensors(device: str) -> tuple[Tensor, Tensor, Tensor]:
        based, rows = relative_to_first(world.to(device)[None]), intrinsics.to(device)[None]
        conditions = camera_conditions(based, rows, TARGET_HW, LATENT_HW)
        maps = chunk_plucker(based, rows, TARGET_HW, LATENT_HW)
        return conditions, maps, ray_from_world(conditions, *LATENT_HW)[0]

    with torch.autocast("cuda", torch.bfloat16):
        on_gpu = tensors("cuda")
    for ours, expected in zip(on_gpu, tensors("cpu"), strict=True):
        torch.testing.assert_close(ours.cpu(), expected, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("rows", [(16, 4), (17, 3), (4,), (1, 17, 4)])
def test_poses_and_intrinsics_that_do_not_match_are_refused_with_their_shapes(rows: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(17, 4, 4\)"):
        camera_conditions(clip()[0], torch.ones(rows), TARGET_HW, LATENT_HW)


def test_a_stored_clip_gives_the_tensors_of_a_live_one() -> None:
    c2w, intrinsics = clip(20)
    world = compose(rollout("a-40,w-30")[-1], c2w)
    stored = training_conditions(world, intrinsics, (96, 64), (3, *LATENT_HW))
    based = relative_to_first(world[:17])
    assert torch.equal(stored[0], camera_conditions(based, intrinsics[:17], TARGET_HW, LATENT_HW))
    assert torch.equal(stored[1], chunk_plucker(based, intrinsics[:17], TARGET_HW, LATENT_HW))


def test_metric_scale_stretches_translations_only() -> None:
    c2w, intrinsics = clip()
    one, _ = training_conditions(c2w, intrinsics, (96, 64), (3, *LATENT_HW))
    two, _ = training_conditions(c2w, intrinsics, (96, 64), (3, *LATENT_HW), metric_scale=2.0)
    ratio = torch.ones(20)
    ratio[[3, 7, 11]] = 2.0
    torch.testing.assert_close(two, one * ratio)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="metric scale"):
            training_conditions(c2w, intrinsics, (96, 64), (3, *LATENT_HW), metric_scale=scale)


def test_a_short_clip_repeats_its_last_camera_and_a_missing_one_stands_still() -> None:
    conditions, maps = training_conditions(*clip(12), (96, 64), (5, *LATENT_HW))
    assert conditions.shape == (5, 20)
    assert torch.equal(conditions[1:], conditions[1].expand(4, 20))
    assert torch.equal(maps[:, 1:], maps[:, 1:2].expand(48, 4, 3, 5))
    conditions, maps = training_conditions(None, None, (96, 64), (2, 3, 5))
    assert torch.equal(conditions[1], torch.cat((torch.eye(4).flatten(), torch.tensor([5.0, 3.0, 2.5, 1.5]))))
    assert maps.shape == (48, 2, 3, 5)


def test_the_first_strategy_takes_the_first_raw_frame_of_each_latent_frame() -> None:
    c2w, intrinsics = clip()
    conditions, _ = training_conditions(c2w, intrinsics, (96, 64), (3, *LATENT_HW), strategy="first")
    assert torch.equal(conditions[:, :16], c2w[[0, 1, 9]].flatten(1))
    with pytest.raises(InputError, match="'middle'"):
        training_conditions(c2w, intrinsics, (96, 64), (3, *LATENT_HW), strategy="middle")  # type: ignore[arg-type]


def test_what_follows_a_chunk_is_cut_from_the_whole_path() -> None:
    c2w, intrinsics = clip(49)
    sizes = (TARGET_HW, LATENT_HW)
    rows, maps = camera_conditions(c2w, intrinsics, *sizes), chunk_plucker(c2w, intrinsics, *sizes)
    for first, end in ((1, 4), (4, 7)):
        raw = slice(8 * (first - 1), 8 * (end - 1) + 1)  # the last pose before, and the new ones
        next_rows, next_maps = next_conditions(c2w[raw], intrinsics[raw], *sizes)
        assert torch.equal(next_rows, rows[first:end])
        assert torch.equal(next_maps, maps[:, first:end])


def test_inputs_told_from_another_place_are_those_of_a_path_that_began_there() -> None:
    generator = torch.Generator().manual_seed(0)
    c2w = rollout("dw-16,i-8")[None].repeat(2, 1, 1, 1)
    c2w[1, :, :3, 3] *= 5
    intrinsics = torch.tensor([40.0, 44.0, 30.0, 17.0]).expand(2, 25, 4)
    origin = torch.randn(2, 3, generator=generator)
    there = c2w.clone()
    there[..., :3, 3] -= origin[:, None]
    sizes = (32, 48), (4, 6)
    found = told_from(origin, camera_conditions(c2w, intrinsics, *sizes), chunk_plucker(c2w, intrinsics, *sizes))
    expected = camera_conditions(there, intrinsics, *sizes), chunk_plucker(there, intrinsics, *sizes)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
