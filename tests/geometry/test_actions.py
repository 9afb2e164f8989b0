"""Keys become paths: the grammar refuses every slip and points at it, and motion has the inertia it promises."""

from __future__ import annotations

import json
import math

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.geometry.actions import (
    MAX_FRAMES,
    ActionError,
    CameraMotion,
    MotionRules,
    legacy_rollout,
    parse_actions,
    rollout,
    trace,
)
from sana_wm.geometry.poses import check_poses


def test_blanks_case_order_and_full_width_commas_do_not_matter() -> None:
    assert parse_actions(" W - 2 ，\n DdL-01, None-1") == [
        frozenset("w"),
        frozenset("w"),
        frozenset("dl"),
        frozenset(),
    ]


@pytest.mark.parametrize(
    ("text", "segment", "shown"),
    [
        ("", None, "empty"),
        (" \t\n", None, "empty"),
        ("w-3,", 2, "empty"),
        (",w-3", 1, "empty"),
        ("w-3,,d-2", 2, "empty"),
        ("w-3,d", 2, "'d'"),
        ("-5", 1, "none"),
        ("w-1,-5", 2, "none"),
        ("w-0", 1, "'0'"),
        ("w-000", 1, "'000'"),
        ("w-", 1, "''"),
        ("w-+3", 1, "'+3'"),
        ("w-3.5", 1, "'3.5'"),
        ("w-３", 1, "'３'"),
        ("w-²", 1, "'²'"),
        ("d-2,xyw-3", 2, "'x', 'y'"),
        ("nonew-3", 1, "'e', 'n', 'o'"),
        ("w-3-4", 1, "'-', '3'"),
        ("w--3", 1, "'-'"),
        ("w-3;d-2", 1, "';'"),
    ],
)
def test_a_wrong_action_string_is_refused_and_its_segment_named(text: str, segment: int | None, shown: str) -> None:
    with pytest.raises(ActionError) as caught:
        parse_actions(text)
    assert caught.value.segment == segment
    assert shown in str(caught.value)
    assert segment is None or f"segment {segment}" in str(caught.value)


def test_unknown_keys_are_listed_beside_the_allowed_ones() -> None:
    with pytest.raises(InputError, match=r"segment 1 \('qx-3'\).*'q', 'x'.*a, d, i, j, k, l, s, w"):
        parse_actions("qx-3")


@pytest.mark.parametrize(
    "text",
    [f"w-{MAX_FRAMES + 1}", f"w-{MAX_FRAMES},d-1", "w-" + "9" * 100_000, "w-1," * 3 + "a-" + "9" * 5000],
    ids=["one", "sum", "digits", "later"],
)
def test_an_endless_path_is_refused_before_it_is_built(text: str) -> None:
    with pytest.raises(ActionError, match=f"{MAX_FRAMES} frames") as caught:
        parse_actions(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, 1e300])
@pytest.mark.parametrize("name", ["translation_speed", "rotation_speed_deg", "pitch_limit_deg"])
def test_impossible_speeds_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        MotionRules(**{name: value})  # type: ignore[arg-type]


def test_a_path_has_one_pose_more_than_frames_and_starts_at_the_identity() -> None:
    c2w = rollout("w-3,none-2")
    assert c2w.shape == (6, 4, 4)
    assert c2w.dtype == torch.float32
    assert torch.equal(c2w[0], torch.eye(4))


def test_every_path_is_rigid_and_never_rolls_or_leaves_the_ground() -> None:
    c2w = check_poses(rollout("wdil-40,kas-30,none-20,ijw-60", rotation_speed_deg=3.0))
    assert (c2w[:, 1, 3] == 0).all()  # height
    assert c2w[:, 1, 0].abs().max() < 1e-7  # the camera's x axis stays horizontal


@pytest.mark.parametrize(("key", "axis", "sign"), [("w", 2, 1), ("s", 2, -1), ("l", 0, 1), ("j", 0, -1)])
def test_translation_keys_move_along_opencv_axes(key: str, axis: int, sign: int) -> None:
    moved = rollout(f"{key}-4")[-1, :3, 3]
    assert moved[axis] == pytest.approx(sign * 0.1, abs=1e-6)
    assert moved.abs().sum() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(("key", "component", "sign"), [("d", 0, 1), ("a", 0, -1), ("i", 1, -1), ("k", 1, 1)])
def test_turning_keys_turn_the_optical_axis_where_they_say(key: str, component: int, sign: int) -> None:
    forward = rollout(f"{key}-10")[-1, :3, 2]
    assert forward[component] == pytest.approx(sign * math.sin(math.radians(6)), abs=1e-6)


def test_opposite_keys_cancel() -> None:
    assert torch.equal(rollout("wsadikjl-3")[-1], torch.eye(4))


def test_a_released_turn_coasts_nine_degrees_further() -> None:
    c2w = rollout("d-1,none-400")
    total = math.degrees(math.atan2(float(c2w[-1, 0, 2]), float(c2w[-1, 2, 2])))
    assert total == pytest.approx(0.6 + 9.30, abs=0.01)


def test_a_fresh_press_stops_motion_on_every_other_axis_at_once() -> None:
    _, velocity = trace("w-10,a-1", MotionRules())
    assert velocity[9, 0] == pytest.approx(0.025)
    assert velocity[10].tolist() == pytest.approx([0, 0, -math.radians(0.6), 0])


def test_without_inertia_motion_stops_with_the_key() -> None:
    c2w = rollout("wd-5,none-3", smooth=False)
    assert torch.equal(c2w[5], c2w[-1])


def test_the_tilt_stops_at_the_limit_and_not_before() -> None:
    c2w = rollout("i-100", rotation_speed_deg=7.0, pitch_limit_deg=60.0)
    assert float(c2w[-1, 1, 2]) == pytest.approx(-math.sin(math.radians(60)), abs=1e-6)
    legacy = legacy_rollout("i-100", rotation_speed_deg=7.0, pitch_limit_deg=60.0)
    assert float(legacy[-1, 1, 2]) == pytest.approx(-math.sin(math.radians(56)), abs=1e-6)


def test_a_tilt_limit_of_ninety_degrees_still_gives_finite_poses() -> None:
    assert torch.isfinite(rollout("i-40,wl-5", rotation_speed_deg=10.0, pitch_limit_deg=90.0)).all()


def test_legacy_rules_are_the_unsmoothed_path_with_strafe_and_yaw_keys_swapped() -> None:
    swapped = rollout("wa-5,jd-7,ik-3,none-2", smooth=False)
    legacy = legacy_rollout("wj-5,al-7,ik-3,none-2", translation_speed=0.025, rotation_speed_deg=0.6)
    assert torch.equal(swapped, legacy)


def test_a_live_session_gives_the_poses_of_the_same_string() -> None:
    text = "w-4,dwi-5,none-6,sl-3"
    motion = CameraMotion()
    live = [motion.c2w, *(motion.step(keys) for keys in parse_actions(text))]
    assert torch.equal(torch.stack(live), rollout(text))
    assert torch.equal(rollout(parse_actions(text)), rollout(text))


def test_held_keys_may_be_any_iterable_and_unknown_ones_are_refused() -> None:
    assert torch.equal(rollout(["WD", ("w",), set()]), rollout("wd-1,w-1,none-1"))
    with pytest.raises(ActionError, match="'q'"):
        CameraMotion().step("wq")


def test_no_keys_at_all_is_one_pose() -> None:
    c2w, velocity = trace([], MotionRules())
    assert c2w.shape == (1, 4, 4)
    assert velocity.shape == (0, 4)


def test_a_motion_can_be_taken_up_again_to_the_last_digit() -> None:
    motion = CameraMotion(MotionRules(translation_speed=0.3))
    for keys in parse_actions("wd-3,dk-4,none-2"):
        motion.step(keys)
    kept = json.loads(json.dumps(motion.state()))
    others = [motion.copy(), CameraMotion.of(kept, motion.rules)]
    later = parse_actions("d-3,wi-5,none-4")
    expected = torch.stack([motion.step(keys) for keys in later])
    for other in others:  # neither has moved with it meanwhile
        assert torch.equal(torch.stack([other.step(keys) for keys in later]), expected)
        assert other.state() == motion.state()


def test_keys_go_on_from_where_poses_have_led() -> None:
    motion = CameraMotion()
    for keys in parse_actions("wd-30,i-20"):
        motion.step(keys)
    placed = CameraMotion().placed(motion.c2w)
    assert torch.equal(placed.c2w, motion.c2w)
    assert torch.equal(placed.velocity, torch.zeros(4))
    for keys in parse_actions("i-200"):
        placed.step(keys)
    assert -placed.c2w[1, 2] == pytest.approx(math.sin(math.radians(60)), abs=1e-6)  # the tilt so far counts


def test_a_tilt_beyond_the_limit_where_poses_led_stays_until_keys_lessen_it() -> None:
    def tilt(motion: CameraMotion) -> float:
        return math.degrees(math.asin(-float(motion.c2w[1, 2])))

    steep = CameraMotion(MotionRules(pitch_limit_deg=85))
    for keys in parse_actions("i-200"):
        steep.step(keys)
    motion = CameraMotion().placed(steep.c2w)
    for word, expected in (("w", 85.0), ("i", 85.0), ("k", 84.4)):
        motion.step(word)
        assert tilt(motion) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("damage", [{"rotation": [1, 2]}, {"pitch": None}, {"held": ["q"]}])
def test_a_motion_that_cannot_be_read_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(InputError):
        CameraMotion.of(CameraMotion().state() | damage)
