"""A request is checked before any model is there, and fitted to the model's picture and length as specified."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from sana_wm.engine.preprocess import check_request, make_conditions
from sana_wm.errors import InputError
from sana_wm.geometry.actions import rollout
from tests.engine.tiny import SETTINGS, picture

PATH = rollout("w-40")


def request(**changes: Any) -> Any:
    return check_request(**{"image": picture(), "prompt": "a street", "action": "w-40", "fov": 70.0} | changes)


def poses(change: Any) -> np.ndarray:
    changed = PATH.double().numpy().copy()
    change(changed)
    return changed


def _nan(p: np.ndarray) -> None:
    p[3, 0, 3] = np.nan


def _stretched(p: np.ndarray) -> None:
    p[5, :3, :3] *= 1.1


def _mirrored(p: np.ndarray) -> None:
    p[:, :3, 0] *= -1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": " \n"}, ["prompt", "empty"]),
        ({"action": "w-40,x-3"}, ["segment 2", "'x'"]),
        ({"action": "w"}, ["segment 1"]),
        ({"action": ""}, ["empty"]),
        ({"c2w": PATH}, ["both"]),
        ({"action": None}, ["neither"]),
        ({"action": None, "c2w": poses(_nan)}, ["frame 3", "finite"]),
        ({"action": None, "c2w": poses(_stretched)}, ["frame 5", "rotation"]),
        ({"action": None, "c2w": poses(_mirrored)}, ["left-handed"]),
        ({"action": None, "c2w": PATH[:, :3]}, ["shape", "(41, 3, 4)"]),
        ({"action": None, "c2w": PATH, "translation_speed": 0.1}, ["translation_speed", "action"]),
        ({"translation_speed": float("nan")}, ["translation_speed", "nan"]),
        ({"fov": None, "intrinsics": [0.0, 50.0, 30.0, 16.0]}, ["focal"]),
        ({"fov": None, "intrinsics": np.eye(4)}, ["(4, 4)"]),
        ({"fov": None, "intrinsics": [1000.0, 1000.0, 30.0, 16.0]}, ["field of view"]),
        ({"intrinsics": [50.0, 50.0, 30.0, 16.0]}, ["both"]),
        ({"fov": 170.0}, ["170"]),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        request(**changes)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_intrinsics_are_assumed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assumed = request(fov=None)
    assert "60 degrees" in caplog.text
    assert assumed.intrinsics_source == "default"
    focal = 30 / np.tan(np.radians(30))
    assert np.allclose(np.asarray(assumed.intrinsics), [focal, focal, 30, 16])


def test_given_intrinsics_and_field_of_view_need_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert request().intrinsics_source == "field of view"
    assert request(fov=None, intrinsics=[50, 50, 30, 16]).intrinsics_source == "given"
    assert not caplog.records


def test_picture_and_intrinsics_go_through_the_same_crop() -> None:
    # 60x32 fills 48x32 at scale 1: six columns fall away on each side
    conditions = make_conditions(request(fov=None, intrinsics=[50.0, 51.0, 29.0, 17.0]), SETTINGS)
    assert conditions.intrinsics[0].tolist() == [50.0, 51.0, 23.0, 17.0]
    assert conditions.intrinsics.shape == (17, 4)
    pixels = (conditions.image * 127.5 + 127.5).round().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels, np.asarray(picture())[:, 6:54])


def test_poses_are_relative_to_the_first_frame() -> None:
    moved = torch.eye(4)
    moved[:3, 3] = torch.tensor([3.0, -1.0, 2.0])
    conditions = make_conditions(request(action=None, c2w=moved @ PATH), SETTINGS)
    assert torch.equal(conditions.c2w[0], torch.eye(4))
    assert torch.allclose(conditions.c2w, PATH[:17], atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "used"), [(1, 1), (4, 1), (5, 9), (16, 17), (17, 17), (20, 17), (21, 25), (41, 41), (100, 41)]
)
def test_frames_are_snapped_to_8k_plus_1_and_it_is_said(
    asked: int, used: int, caplog: pytest.LogCaptureFixture
) -> None:
    conditions = make_conditions(request(), SETTINGS, asked)
    assert conditions.num_frames == len(conditions.c2w) == used
    assert (conditions.frames_requested, conditions.frames_available) == (asked, 41)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == (asked != used)
    assert all(f"{used} frames, not the {asked}" in message for message in said)


def test_a_path_cut_to_the_models_length_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert make_conditions(request(), SETTINGS).num_frames == 17
    assert "41 poses, of which 17" in caplog.text


@pytest.mark.parametrize("asked", [0, -8])
def test_no_frames_are_refused(asked: int) -> None:
    with pytest.raises(InputError, match=f"num_frames is {asked}"):
        make_conditions(request(), SETTINGS, asked)


def test_a_short_intrinsics_sequence_is_stretched_over_the_video() -> None:
    rows = torch.tensor([[50.0, 50, 30, 16], [60.0, 60, 30, 16]])
    conditions = make_conditions(request(fov=None, intrinsics=rows), SETTINGS)
    assert conditions.intrinsics[:, 0].tolist()[::8] == [50.0, 55.0, 60.0]
