"""Pairs of frames that see the same place are found by the rules, and scored as the benchmark scores them."""

import math

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.revisit import (
    PairScore,
    RevisitPair,
    best_pairs,
    find_pairs,
    revisit_geometry,
    score_pairs,
    summarise,
    video_frame,
)
from sana_wm.geometry.poses import rigid
from tests.evaluation.camera_paths import turned, winding


def there_and_back(frames: int = 321) -> torch.Tensor:
    """Ten metres forward and back without turning: frame i and frame 320 - i are at one place."""
    z = 10 - (torch.linspace(-10, 10, frames, dtype=torch.float64)).abs()
    return rigid(turned((0, 1, 0), torch.zeros(frames)), torch.stack((z * 0, z * 0, z), dim=1))


def test_distances_and_angles_are_those_of_the_poses() -> None:
    path = winding(6)
    distance, angle = revisit_geometry(path)
    assert distance[1, 4].item() == pytest.approx(float((path[1] - path[4])[:3, 3].norm()))
    assert angle[0, 5].item() == pytest.approx(90.0, abs=1e-6)
    assert torch.allclose(distance, distance.mT)
    assert torch.allclose(angle, angle.mT)


def test_the_way_back_revisits_the_way_out() -> None:
    pairs = find_pairs(there_and_back())
    assert pairs
    for pair in pairs:
        assert pair.frame_a > 0
        assert pair.frame_b - pair.frame_a >= 80
        assert pair.distance_m < 0.5
        assert abs(pair.frame_a + pair.frame_b - 320) <= 8
    assert pairs[0].distance_m == pytest.approx(0.0, abs=1e-9)


def test_pairs_are_best_first_apart_and_few() -> None:
    pairs = find_pairs(there_and_back())
    quality = [pair.quality_score for pair in pairs]
    assert quality == sorted(quality)  # type: ignore[type-var]
    for i, one in enumerate(pairs):
        for other in pairs[:i]:
            assert max(abs(one.frame_a - other.frame_a), abs(one.frame_b - other.frame_b)) >= 16
    assert len(find_pairs(there_and_back(), most=3)) == 3
    assert find_pairs(there_and_back(), most=3) == pairs[:3]


def test_looking_elsewhere_is_no_revisit() -> None:
    path = there_and_back()
    path[160:, :3, :3] = path[160:, :3, :3] @ turned((0, 1, 0), 25.0)
    assert find_pairs(path) == []
    looser = find_pairs(path, max_angle_deg=30.0)
    assert looser[0].angle_diff_deg == pytest.approx(25.0)
    assert looser[0].quality_score == pytest.approx(looser[0].distance_m / 0.5 + 25 / 30)


def test_a_path_shorter_than_the_gap_has_no_pairs() -> None:
    assert find_pairs(winding(20)) == []


def test_unrated_pairs_come_last() -> None:
    pairs = [RevisitPair(1, 90, 0.1, 1.0, q) for q in (None, 0.9, 0.2)]
    assert [pair.quality_score for pair in best_pairs(pairs, 2)] == [0.2, 0.9]
    assert best_pairs(pairs)[-1].quality_score is None


@pytest.mark.parametrize(
    ("frame", "fps", "num_frames", "expected"),
    [(10, 16.05, 961, 10), (960, 16.0, 900, 899), (1, 8.0, 481, 0), (3, 8.0, 481, 2), (17, 24.0, 1441, 26)],
    ids=["nearly the same rate", "behind the end", "half to even below", "half to even above", "faster"],
)
def test_a_frame_of_the_path_is_found_in_a_video_of_another_rate(
    frame: int, fps: float, num_frames: int, expected: int
) -> None:
    assert video_frame(frame, fps, num_frames) == expected


def test_the_two_frames_of_a_pair_are_compared() -> None:
    video = torch.zeros(100, 3, 12, 12, dtype=torch.uint8)
    video[90] += 10
    pairs = [RevisitPair(5, 90, 0.1, 1.0, 0.3), RevisitPair(5, 95, 0.1, 1.0, 0.1)]
    scores = score_pairs(video, pairs, lpips=lambda a, b: (a.float() - b.float()).abs().mean().reshape(1))
    assert [score.pair.frame_b for score in scores] == [95, 90]
    assert [score.psnr for score in scores] == pytest.approx([100.0, 10 * math.log10(255**2 / 100)])
    assert scores[0].ssim == pytest.approx(1.0)
    assert [score.lpips for score in scores] == [0.0, 10.0]
    assert score_pairs(video, pairs)[0].lpips is None


def test_a_pair_that_falls_on_one_frame_of_a_short_video_is_passed_over() -> None:
    assert score_pairs(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), [RevisitPair(20, 200, 0.1, 1.0)]) == []


def test_the_mean_is_over_pairs_and_scenes_without_one_are_named() -> None:
    pair = RevisitPair(1, 90, 0.1, 1.0)
    summary = summarise(
        {"a": [PairScore(pair, 10, 0.1), PairScore(pair, 12, 0.2)], "b": [PairScore(pair, 20, 0.9)], "c": []}
    )
    assert summary.psnr == pytest.approx(14.0)
    assert (summary.pairs, summary.scenes_without_pairs, summary.lpips) == (3, ("c",), None)
    with pytest.raises(InputError, match="1 scenes hold 0 scored"):
        summarise({"c": []})
    with pytest.raises(InputError, match="1 of 2 revisit pairs have LPIPS"):
        summarise({"a": [PairScore(pair, 10, 0.1, 0.5), PairScore(pair, 10, 0.1)]})


def test_a_pair_is_read_from_the_benchmarks_entry() -> None:
    entry = {"frame_a": 3, "frame_b": 99, "distance_m": 0.25, "angle_diff_deg": 4, "quality_score": 0.7}
    assert RevisitPair.from_json(entry) == RevisitPair(3, 99, 0.25, 4.0, 0.7)
    with pytest.raises(InputError, match="pair 7 of game_style_001 has frame_b = '99'"):
        RevisitPair.from_json({**entry, "frame_b": "99"}, "pair 7 of game_style_001")


def test_wrong_inputs_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="fps is 0"):
        find_pairs(winding(), fps=0)
    with pytest.raises(InputError, match="frame -1 of a video of 10 frames"):
        video_frame(-1, 16.0, 10)
    with pytest.raises(InputError, match=r"the video is torch.float32"):
        score_pairs(torch.zeros(4, 3, 8, 8), [])
