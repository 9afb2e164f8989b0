"""Pose errors ignore the world frame of the estimate, grow with its mistakes, and never hide a missing pose."""

import math

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.pose_error import Align, pose_errors, relative_pose_errors, rotation_angles_deg, summarise
from sana_wm.geometry.poses import rigid
from tests.evaluation.camera_paths import moved, shaken, straight, turned, winding


@pytest.mark.parametrize("align", ["release", "umeyama"])
def test_the_frame_and_unit_of_the_estimate_do_not_matter(align: Align) -> None:
    path, found = winding(), shaken(winding(), 0.02)
    plain, elsewhere = pose_errors(path, found, align=align), pose_errors(path, moved(found), align=align)
    assert elsewhere.rot_err == pytest.approx(plain.rot_err, rel=1e-6)
    assert elsewhere.trans_err == pytest.approx(plain.trans_err, rel=1e-6)
    assert elsewhere.cam_mc == pytest.approx(plain.cam_mc, rel=1e-6)
    assert elsewhere.alignment.scale == pytest.approx(plain.alignment.scale / 2.5)


@pytest.mark.parametrize("align", ["release", "umeyama"])
def test_a_perfect_estimate_has_no_error(align: Align) -> None:
    errors = pose_errors(winding(), moved(winding()), align=align)
    assert errors.rot_err < 1e-5
    assert errors.trans_err < 1e-9
    assert errors.path_length_ratio == pytest.approx(1.0)
    assert errors.registered == 1.0


@pytest.mark.parametrize("align", ["release", "umeyama"])
def test_errors_grow_with_noise(align: Align) -> None:
    marks = [pose_errors(winding(), shaken(winding(), size), align=align) for size in (0.005, 0.02, 0.08)]
    for name in ("rot_err", "trans_err", "cam_mc"):
        values = [getattr(mark, name) for mark in marks]
        assert values == sorted(values)
        assert values[0] > 0


def test_one_turned_frame_shows_in_its_place_of_the_curve() -> None:
    found = winding()
    found[10, :3, :3] = found[10, :3, :3] @ turned((0, 0, 1), 12.0)
    errors = pose_errors(winding(), found)
    assert errors.rotation_deg[10].item() == pytest.approx(12.0, abs=0.5)
    assert int(errors.rotation_deg.argmax()) == 10
    assert errors.rotation_deg[20].item() < 0.5


def test_a_straight_path_has_release_errors_and_is_refused_for_umeyama() -> None:
    assert pose_errors(straight(), moved(straight())).rot_err < 1e-5
    with pytest.raises(InputError, match=r"asked camera centres lie on one line.*align='release'"):
        pose_errors(straight(), moved(straight()), align="umeyama")


def test_a_camera_turning_on_the_spot_has_release_errors() -> None:
    turntable = winding()
    turntable[:, :3, 3] = 0
    errors = pose_errors(turntable, turntable)
    assert errors.rot_err < 1e-5
    assert errors.trans_err == 0
    assert errors.path_length_ratio is None


def test_sampled_poses_are_compared_with_every_fourth_asked_one() -> None:
    path = winding(41)
    errors = pose_errors(path, moved(path[::4]), interval=4)
    assert len(errors.rotation_deg) == 11
    assert errors.trans_err < 1e-9


def test_skipping_the_first_frame_re_bases_both_paths() -> None:
    path, found = winding(41), moved(winding(41))[::4].clone()
    found[0, :3, 3] += 50.0
    assert pose_errors(path, found, interval=4).trans_err > 0.5
    skipped = pose_errors(path, found, interval=4, skip_first_frame=True)
    assert skipped.trans_err < 1e-9
    assert torch.allclose(skipped.truth[0], torch.eye(4, dtype=torch.float64))


def test_frames_without_a_pose_are_left_out_of_means_and_counted() -> None:
    found = moved(winding())
    valid = torch.ones(len(found), dtype=torch.bool)
    valid[[0, 7, 8, 9]] = False
    found[~valid] = math.nan
    errors = pose_errors(winding(), found, valid=valid)
    assert errors.trans_err < 1e-9
    assert errors.rotation_deg.isnan().nonzero().flatten().tolist() == [0, 7, 8, 9]
    assert errors.registered == pytest.approx(36 / 40)


def test_a_video_that_ends_early_is_not_fully_registered() -> None:
    assert pose_errors(winding(), moved(winding())[:30]).registered == pytest.approx(0.75)


def test_relative_errors_forget_an_early_mistake() -> None:
    found = winding().clone()
    found[5:] = rigid(turned((0, 1, 0), 15.0), torch.ones(3, dtype=torch.float64)) @ found[5:]
    relative = relative_pose_errors(pose_errors(winding(), found), gap=4)
    wrong = (relative.rotation_deg > 1.0).nonzero().flatten().tolist()
    assert wrong == [1, 2, 3, 4]
    assert relative.rotation_deg[wrong].tolist() == pytest.approx([15.0] * 4)
    assert relative.mean_rotation_deg == pytest.approx(15.0 * 4 / 36, abs=1e-4)


def test_relative_translation_is_in_units_of_the_asked_path() -> None:
    relative = relative_pose_errors(pose_errors(winding(), moved(winding(), scale=9.0)), gap=8)
    assert relative.mean_translation < 1e-9
    with pytest.raises(InputError, match="gap is 40 for a path of 40"):
        relative_pose_errors(pose_errors(winding(), winding()), gap=40)


def test_angles_are_clipped_where_rounding_passes_the_ends() -> None:
    assert rotation_angles_deg(torch.eye(3) * 1.0000001).item() == 0.0
    assert rotation_angles_deg(turned((0, 1, 0), 180.0)).item() == pytest.approx(180.0)


def test_a_scene_that_did_not_register_is_named_not_dropped() -> None:
    good, short = pose_errors(winding(), shaken(winding(), 0.01)), pose_errors(winding(), winding()[:19])
    summary = summarise({"a": good, "b": None, "c": short})
    assert summary.measured == ("a",)
    assert summary.failed == ("b", "c")
    assert summary.rot_err == good.rot_err
    assert math.isnan(summarise({"b": None}).rot_err)
    with pytest.raises(InputError, match="0 scenes"):
        summarise({})


def test_poses_that_cannot_be_compared_are_refused() -> None:
    path = winding()
    with pytest.raises(InputError, match="interval is 0"):
        pose_errors(path, path, interval=0)
    with pytest.raises(InputError, match="align is 'sim3'"):
        pose_errors(path, path, align="sim3")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"est_c2w, frame 1, has a 3x3 part that is no rotation"):
        pose_errors(path, path * 2 - torch.eye(4))
    with pytest.raises(InputError, match=r"valid has shape \(3,\)"):
        pose_errors(path, path, valid=torch.ones(3, dtype=torch.bool))
    with pytest.raises(InputError, match="count this scene as failed"):
        pose_errors(path, path, valid=torch.zeros(40, dtype=torch.bool))
    with pytest.raises(InputError, match="none of the 0 compared frames"):
        pose_errors(path, path[:1], skip_first_frame=True)


def test_orientations_that_fit_a_mirror_image_are_refused() -> None:
    half_turns = torch.stack([turned(axis, 180.0) for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))])
    path = rigid(torch.eye(3, dtype=torch.float64).expand(4, 3, 3), torch.zeros(4, 3, dtype=torch.float64))
    found = rigid(torch.cat((torch.eye(3, dtype=torch.float64)[None], half_turns)), path[:, :3, 3])
    # each half turn twice: the mean of R S^T over them and the first pose is minus the identity, over 7
    asked = torch.cat((path[:1], path[1:], path[1:]))
    recovered = torch.cat((found[:1], found[1:], found[1:]))
    with pytest.raises(InputError, match="mirror image"):
        pose_errors(asked, recovered)
