"""The overlay shows what the camera does: the right letters, up is up, and nothing outside its corner changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.geometry.actions import KEYS, rollout
from sana_wm.geometry.overlay import (
    CORNERS,
    LABELS,
    draw_overlay,
    joystick,
    lit_keys,
    overlay_layout,
    relative_motion,
)

GREY = np.full((6, 240, 480, 3), 90, np.uint8)


def test_letters_name_the_keys_that_move_the_camera_that_way() -> None:
    for place, label in enumerate(LABELS):
        translation, _ = relative_motion(rollout(f"{label}-6"))
        assert lit_keys(translation)[-1].tolist() == [index == place for index in range(4)]
        assert KEYS[label.lower()][0] in (0, 1)


def test_angles_and_translations_are_those_of_the_motion() -> None:
    translation, euler = relative_motion(rollout("wd-3", smooth=False))
    torch.testing.assert_close(euler, torch.tensor([[0.6, 0.0, 0.0]]).expand(3, 3), atol=1e-5, rtol=0)
    assert translation.norm(dim=1).tolist() == pytest.approx([0.025] * 3, abs=1e-6)


@pytest.mark.parametrize(("keys", "right", "up"), [("d", 1, 0), ("a", -1, 0), ("i", 0, 1), ("k", 0, -1)])
def test_the_knob_goes_where_the_camera_turns(keys: str, right: int, up: int) -> None:
    x, y = joystick(relative_motion(rollout(f"{keys}-30"))[1])
    assert float(x[-1]) == pytest.approx(right, abs=0.01)
    assert float(y[-1]) == pytest.approx(up, abs=0.01)


def test_tilting_up_moves_the_drawn_knob_up() -> None:
    layout = overlay_layout(480, 240)
    x, y = layout.joystick
    for keys, sign in (("i", -1), ("k", 1)):
        frames = draw_overlay(np.repeat(GREY[:1], 31, 0), rollout(f"{keys}-30"))
        knob = int(0.48 * layout.joystick_radius)
        assert frames[-1, y + sign * knob, x].min() > 200
        assert frames[-1, y - sign * knob, x].max() < 150


def test_one_pose_lights_nothing() -> None:
    translation, euler = relative_motion(torch.eye(4)[None])
    assert lit_keys(translation).tolist() == [[False] * 4]
    assert [knob.tolist() for knob in joystick(euler)] == [[0.0], [0.0]]
    assert draw_overlay(GREY, torch.eye(4)[None]).shape == GREY.shape


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("size", [(240, 480), (64, 112), (33, 47), (704, 1280)])
def test_drawing_stays_in_its_half_and_leaves_the_input_alone(corner: str, size: tuple[int, int]) -> None:
    frames = np.full((2, *size, 3), 90, np.uint8)
    drawn = draw_overlay(frames, rollout("wd-4"), corner)
    assert (frames == 90).all()
    changed = (drawn != 90).any(-1).any(0)
    assert changed.any()
    rows = np.nonzero(changed.any(1))[0]
    assert rows.max() < size[0] * 0.6 if corner.startswith("top") else rows.min() > size[0] * 0.4


def test_the_last_state_is_held_when_poses_run_out() -> None:
    drawn = draw_overlay(GREY, rollout("w-2"))
    assert np.array_equal(drawn[2], drawn[5])


def test_wrong_frames_poses_and_corners_are_refused() -> None:
    with pytest.raises(InputError, match="uint8"):
        draw_overlay(GREY.astype(np.float32), torch.eye(4)[None])
    with pytest.raises(InputError, match="0 poses"):
        draw_overlay(GREY, torch.zeros(0, 4, 4))
    with pytest.raises(InputError, match="'middle'"):
        overlay_layout(480, 240, "middle")
