"""Intrinsics of every form become one row a frame; the crop moves them with the pixels; nonsense is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sana_wm.errors import InputError
from sana_wm.geometry.intrinsics import (
    as_vec4,
    check_fov,
    crop_plan,
    default_intrinsics,
    fov_degrees,
    image_tensor,
    load_intrinsics,
)

ROW = [600.0, 610.0, 320.0, 176.0]
MATRIX = np.array([[600.0, 0.5, 320.0], [0.0, 610.0, 176.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("array", [np.array(ROW), MATRIX, [ROW], MATRIX[None], torch.tensor(ROW), np.array([ROW] * 30)])
def test_one_camera_in_any_form_is_repeated_over_the_clip(array: Any) -> None:
    assert torch.equal(as_vec4(array, 17), torch.tensor(ROW).expand(17, 4))


def test_a_longer_sequence_is_cut_and_a_shorter_one_stretched() -> None:
    rows = np.array(ROW) + 10.0 * np.arange(5)[:, None]
    assert torch.equal(as_vec4(rows, 3), torch.from_numpy(rows[:3]).float())
    stretched = as_vec4(rows, 9)
    assert torch.equal(stretched[::2], torch.from_numpy(rows).float())
    torch.testing.assert_close(stretched[1::2], (stretched[:-1:2] + stretched[2::2]) / 2, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(4, 4), (5,), (3,), (2, 3), (3, 4, 4), (1, 1, 3, 3), (0, 4), (0, 3, 3), ()])
def test_other_shapes_are_refused_by_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"has shape"):
        as_vec4(np.full(shape, 500.0), 9)


@pytest.mark.parametrize("bad", [0.0, -600.0, math.nan, math.inf, 1e30])
@pytest.mark.parametrize("column", [0, 1])
def test_impossible_focal_lengths_are_refused_and_their_frame_named(bad: float, column: int) -> None:
    rows = np.array([ROW] * 5)
    rows[3, column] = bad
    with pytest.raises(InputError, match="frame 3"):
        as_vec4(rows, 5)


def test_a_projection_matrix_is_not_mistaken_for_three_frames() -> None:
    with pytest.raises(InputError, match="focal"):
        as_vec4(np.concatenate((MATRIX, np.zeros((3, 1))), 1), 9)


def test_a_clip_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        as_vec4(ROW, 0)


def test_files_hold_any_of_the_forms(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", MATRIX)
    np.savez(tmp_path / "k.npz", intrinsics=MATRIX[None], c2w=np.eye(4)[None])
    assert torch.equal(as_vec4(load_intrinsics(tmp_path / "k.npy"), 2), as_vec4(load_intrinsics(tmp_path / "k.npz"), 2))
    np.save(tmp_path / "k.npy", np.eye(4))
    with pytest.raises(InputError, match=r"k\.npy.*4x4"):
        load_intrinsics(tmp_path / "k.npy")


@pytest.mark.parametrize("src_wh", [(1691, 930), (97, 61), (61, 97), (1, 1), (1280, 704), (1281, 704), (333, 2001)])
@pytest.mark.parametrize("target_hw", [(704, 1280), (32, 64), (37, 53)])
def test_every_crop_has_the_target_size_and_lies_inside_the_resized_image(
    src_wh: tuple[int, int], target_hw: tuple[int, int]
) -> None:
    plan = crop_plan(src_wh, target_hw)
    for resized, offset, target in zip(plan.resized_wh, plan.crop_left_top, target_hw[::-1], strict=True):
        assert offset >= 0
        assert offset + target <= resized


def test_a_point_keeps_its_pixel_under_resize_and_crop() -> None:
    plan = crop_plan((300, 500), (64, 128))
    source = torch.tensor([400.0, 410.0, 155.0, 240.0])
    fx, fy, cx, cy = plan.intrinsics(source).tolist()
    X, Y, Z = 0.1, -0.05, 1.0
    u, v = 400 * X / Z + 155, 410 * Y / Z + 240
    sx, sy = plan.resized_wh[0] / 300, plan.resized_wh[1] / 500
    assert fx * X / Z + cx == pytest.approx(u * sx - plan.crop_left_top[0], abs=1e-4)
    assert fy * Y / Z + cy == pytest.approx(v * sy - plan.crop_left_top[1], abs=1e-4)


def test_an_image_of_the_target_size_passes_through_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    image = crop_plan((80, 48), (48, 80)).apply(Image.fromarray(pixels))
    assert np.array_equal(np.asarray(image), pixels)
    tensor = image_tensor(image)
    assert tensor.shape == (3, 48, 80)
    assert tensor[:, 0, 0].tolist() == pytest.approx([p / 127.5 - 1 for p in pixels[0, 0].tolist()], abs=1e-6)


def test_grey_and_translucent_images_become_rgb() -> None:
    for mode in ("L", "RGBA", "P"):
        assert crop_plan((30, 20), (16, 16)).apply(Image.new(mode, (30, 20))).mode == "RGB"


def test_an_image_of_another_size_than_planned_is_refused() -> None:
    with pytest.raises(InputError, match="20x30"):
        crop_plan((30, 20), (16, 16)).apply(Image.new("RGB", (20, 30)))


@pytest.mark.parametrize("src_wh", [(0, 10), (10, -1), (4000, 1), (1, 4000)])
def test_images_that_cannot_fill_the_target_are_refused(src_wh: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        crop_plan(src_wh, (704, 1280))


@pytest.mark.parametrize(
    ("focals", "axis"),
    [
        ((2900.0, 700.0), "horizontal"),
        ((700.0, 1600.0), "vertical"),
        ((360.0, 700.0), "horizontal"),
        ((0.9, 0.9), "pixels of this image"),
    ],
)
def test_a_field_of_view_outside_25_to_120_degrees_is_refused_by_axis(focals: tuple[float, float], axis: str) -> None:
    with pytest.raises(InputError, match=axis):
        check_fov(torch.tensor([*focals, 640.0, 352.0]), (1280, 704))


def test_ordinary_fields_of_view_pass_for_all_frames_or_one() -> None:
    check_fov(torch.tensor([600.0, 610.0, 640.0, 352.0]).expand(5, 4), (1280, 704))
    with pytest.raises(InputError):
        check_fov(torch.tensor([[600.0, 610.0, 640.0, 352.0], [60.0, 610.0, 640.0, 352.0]]), (1280, 704))
    with pytest.raises(InputError):
        check_fov(torch.tensor([math.nan, 610.0, 640.0, 352.0]), (1280, 704))


def test_assumed_intrinsics_have_the_stated_view_square_pixels_and_the_centre() -> None:
    stated = default_intrinsics((1280, 704), horizontal_fov_deg=80.0)
    assert fov_degrees(stated, (1280, 704))[0] == pytest.approx(80.0, abs=1e-4)
    assert stated[0] == stated[1]
    assert stated[2:].tolist() == [640.0, 352.0]
    portrait = default_intrinsics((704, 1280))
    assert fov_degrees(portrait, (704, 1280))[1] == pytest.approx(60.0, abs=1e-4)


@pytest.mark.parametrize("fov", [25.0, 120.0, 0.0, -60.0, math.nan, math.inf])
def test_an_impossible_stated_view_is_refused(fov: float) -> None:
    with pytest.raises(InputError, match="field of view"):
        default_intrinsics((1280, 704), fov)


def test_a_stated_view_too_wide_down_a_portrait_image_is_refused() -> None:
    with pytest.raises(InputError, match="vertical"):
        default_intrinsics((400, 1600), 100.0)
