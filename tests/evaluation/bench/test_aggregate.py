"""Numbers of a split: means over what was measured, failures counted, nothing missing made up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sana_wm.evaluation.bench.aggregate import eval_poses, group, summarise
from sana_wm.evaluation.bench.columns import CAMERA_TABLE, MISSING, OURS_TABLE, REVISIT_TABLE, Column
from sana_wm.evaluation.bench.tables import markdown
from sana_wm.evaluation.vbench import QUALITY_DIMENSIONS
from tests.evaluation.bench.results import camera, result, revisit, temporal, truth, without_video

TOO_FEW = "a pose was recovered for 1 of 5 frames; at least 50% are needed"


@pytest.fixture
def scenes() -> list[dict[str, Any]]:
    """Two categories; one scene fails in the camera, one has no video."""
    return [
        result(
            "indoor_001", camera=camera(2.0), truth=truth(20.0), revisit=revisit(10.0), temporal=temporal([0.9, 0.6]),
        ),
        result("indoor_002", camera=camera(4.0), truth=truth(30.0), revisit=revisit(), temporal=temporal([0.7, 0.4])),
        result(
            "game_001", camera=camera(90.0, registered=0.2, failed=TOO_FEW), truth=truth(10.0),
            revisit=revisit(20.0, 30.0), temporal=temporal([0.8, 0.8]),
        ),
        without_video("game_002", "stage decode: the whole video is one colour"),
    ]  # fmt: skip


def summary(scenes: list[dict[str, Any]], **vbench: float) -> dict[str, Any]:
    settings = {"benchmark": "tiny"}
    return summarise(
        {"simple": scenes}, {"simple": vbench}, method={"model": "m"}, settings=settings, missing={"X": "y"}
    )


def column(title: str) -> Column:
    tables = (CAMERA_TABLE, REVISIT_TABLE, OURS_TABLE)
    return next(column for table in tables for column in table.columns if column.title == title)


def test_camera_means_are_over_the_scenes_that_did_not_fail_and_failures_are_counted(
    scenes: list[dict[str, Any]],
) -> None:
    found = group(scenes)
    assert (found["scenes"], found["measured"], found["failed"]) == (4, 2, 2)
    assert found["camera"]["rot_err"]["mean"] == pytest.approx(3.0)
    assert found["camera"]["rot_err"]["n"] == 2
    assert found["camera"]["cam_mc"]["mean"] == pytest.approx(0.6)
    assert found["camera"]["relative_rotation_deg"]["mean"] == pytest.approx(1.5)
    assert found["camera"]["registered"]["mean"] == pytest.approx(2.2 / 3)
    assert found["camera"]["umeyama_rot_err"] is None


def test_likeness_is_over_every_scene_with_a_video(scenes: list[dict[str, Any]]) -> None:
    found = group(scenes)
    assert found["truth"]["psnr"]["mean"] == pytest.approx(20.0)
    assert found["truth"]["lpips"] is None


def test_floors_stand_beside_the_numbers(scenes: list[dict[str, Any]]) -> None:
    found = group(scenes)
    assert found["floors"]["render"]["rot_err"]["mean"] == pytest.approx(0.05)
    assert found["floors"]["autoencoder"]["psnr"]["mean"] == pytest.approx(32.0)
    assert column("RotErr").cell(found) == "3.00 (0.05 / 0.50)"
    assert column("TransErr").cell(found) == "0.300 (0.005 / 0.050)"
    assert column("SC").cell(found) == MISSING


def test_revisits_are_means_over_pairs_and_not_over_scenes(scenes: list[dict[str, Any]]) -> None:
    found = group(scenes)["revisit"]
    assert found["psnr"]["mean"] == pytest.approx(20.0)
    assert (found["pairs"], found["scenes_without_pairs"]) == (3, 1)


def test_windows_are_means_of_equally_many_and_one_window_has_no_drift(scenes: list[dict[str, Any]]) -> None:
    found = group(scenes)
    assert found["temporal"]["ratio"] == pytest.approx([0.8, 0.6])
    assert column("sharp first").value(found) == pytest.approx(0.8)
    assert column("sharp last").value(found) == pytest.approx(0.6)
    short = group([result("a_001", temporal=temporal([0.9], quality=[50.0]))])
    assert column("sharp first").value(short) == pytest.approx(0.9)
    assert column("sharp last").value(short) is None
    assert column("ΔIQ").value(short) is None
    assert column("IQ first").value(short) == 50.0
    uneven = group([result("a_001", temporal=temporal([0.9])), result("a_002", temporal=temporal([0.9, 0.5]))])
    assert uneven["temporal"]["ratio"] is None


def test_imaging_quality_lost_is_first_less_last_window() -> None:
    found = group([result("a_001", temporal=temporal([1, 1, 1], quality=[70.0, 60.0, 65.0]))])
    assert column("ΔIQ").value(found) == pytest.approx(5.0)
    assert column("IQ last").value(found) == 65.0


def test_overall_needs_all_seven_dimensions(scenes: list[dict[str, Any]]) -> None:
    for scene in scenes[:3]:
        scene["parts"]["vbench"] = {"temporal_flickering": 0.95}
    alone = group(scenes)["vbench"]
    assert alone == {"temporal_flickering": pytest.approx(0.95), "overall": None}
    raw = dict.fromkeys(QUALITY_DIMENSIONS, 0.8)
    assert group(scenes, raw)["vbench"]["temporal_flickering"] == 0.8
    assert 0 < group(scenes, raw)["vbench"]["overall"] < 100
    del raw["dynamic_degree"]
    assert group(scenes, raw)["vbench"]["overall"] is None


def test_a_summary_names_every_failure_and_each_category(scenes: list[dict[str, Any]]) -> None:
    found = json.loads(json.dumps(summary(scenes), allow_nan=False))
    assert [entry["scene"] for entry in found["failed"]] == ["game_001", "game_002"]
    assert found["splits"]["simple"]["categories"].keys() == {"indoor", "game"}
    assert found["splits"]["simple"]["categories"]["game"]["failed"] == 2
    assert found["splits"]["simple"]["categories"]["game"]["camera"]["rot_err"] is None
    text = markdown(found)
    assert f"- simple/game_001: {TOO_FEW}" in text
    assert "| all | 4 | 2 | 3.00 (0.05 / 0.50) | 0.300 (0.005 / 0.050) |" in text
    assert "- X: y" in text
    assert "| sharpness over that of the truth | 0.800 | 0.600 |" in text


def test_poses_in_the_releases_layout_hold_failed_scenes_without_a_number(scenes: list[dict[str, Any]]) -> None:
    found = eval_poses(scenes)
    assert found["indoor_001"] == {
        "RotErr": 2.0,
        "RotErr_unit": "deg",
        "TransErr_rel": 0.2,
        "CamMC_rel": 0.4,
        "scene_type": "indoor",
        "n_frames": 5,
        "skip_first_frame": False,
    }
    assert found["game_001"]["RotErr"] is None
    assert found["game_001"]["failed"] == TOO_FEW
    assert found["game_002"]["failed"].startswith("stage decode")
    assert eval_poses([result("a_001", truth=truth(20.0))]) == {}


def test_scenes_that_all_failed_still_make_a_summary() -> None:
    found = summary([without_video("a_001", "the video does not exist.")])
    assert found["splits"]["simple"]["all"]["camera"]["rot_err"] is None
    assert f"| all | 1 | 1 | {MISSING} |" in markdown(found)
