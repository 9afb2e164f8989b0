"""Points are counted where the image shows them, once in their tile."""

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.coverage import coverage
from tests.evaluation.camera_paths import turned

LENS = torch.tensor([32.0, 32.0, 32.0, 24.0])
HERE = torch.eye(4)[None]


def test_points_are_seen_in_front_and_inside_only() -> None:
    points = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 0, 0.005], [1, 0, 1], [-1, 0, 1], [0, 0.75, 1]])
    found = coverage(points, HERE, LENS, (48, 64))
    assert found.count.tolist() == [2]  # the centre and the left edge; the right and the lower edge are outside
    assert found.empty_fraction.tolist() == [1 - 2 / 1024]


def test_two_points_in_one_tile_fill_one_tile() -> None:
    points = torch.tensor([[0.0, 0, 1], [0.01, 0.01, 1], [0.5, 0, 1]])
    found = coverage(points, HERE, LENS, (48, 64), tiles=(2, 4))
    assert found.count.tolist() == [3]
    assert found.empty_fraction.tolist() == [1 - 2 / 8]


def test_every_view_looks_through_its_own_pose_and_lens() -> None:
    back = HERE.clone()
    back[0, :3, :3] = turned((0, 1, 0), 180.0)
    views, points = torch.cat((HERE, back, HERE, HERE)), torch.tensor([[0.9, 0.0, 1.0]])
    lenses = LENS.repeat(4, 1)
    lenses[2, :2] *= 2  # zoomed in: the point leaves the image
    assert coverage(points, views, lenses, (48, 64)).count.tolist() == [1, 0, 0, 1]


def test_nothing_to_see_is_all_empty() -> None:
    found = coverage(torch.zeros(0, 3), HERE, LENS, (48, 64))
    assert (found.count.tolist(), found.empty_fraction.tolist()) == ([0], [1.0])


def test_wrong_inputs_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"points has the shape \(5, 2\)"):
        coverage(torch.zeros(5, 2), HERE, LENS, (48, 64))
    with pytest.raises(InputError, match=r"intrinsics has the shape \(3, 4\); it must be \(4,\) or \(1, 4\)"):
        coverage(torch.zeros(5, 3), HERE, LENS.repeat(3, 1), (48, 64))
    with pytest.raises(InputError, match="0x64"):
        coverage(torch.zeros(5, 3), HERE, LENS, (0, 64))
