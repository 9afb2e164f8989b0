"""A camera with constant velocities goes where its own axes say."""

from __future__ import annotations

import math

import pytest
import torch

from sana_wm.geometry.actions import MotionRules, trace
from sana_wm.geometry.poses import check_poses
from sana_wm.geometry.twists import carried


def still() -> torch.Tensor:
    return torch.eye(4)


def test_moving_without_turning_is_a_straight_line_along_the_cameras_axes() -> None:
    turned = carried(still(), torch.tensor([0.0, 0, 0, 0, math.pi / 2, 0]), 1)[-1]
    path = carried(turned, torch.tensor([0.5, 0.25, 1.0, 0, 0, 0]), 3)
    # after a quarter turn right, forward is the world's x and right is its -z
    assert torch.allclose(path[:, :3, 3], torch.tensor([[1.0, 0.25, -0.5]]) * torch.tensor([[1.0], [2.0], [3.0]]))
    assert torch.allclose(path[:, :3, :3], turned[:3, :3].expand(3, 3, 3))


@pytest.mark.parametrize(
    ("axis", "looked_at", "seen_at"),
    [
        (3, (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)),  # tilted up by a quarter, what was above is ahead
        (4, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),  # turned right, what was to the right is ahead
        (5, (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),  # rolled clockwise, what was below is to the right
    ],
)
def test_turns_go_the_way_they_are_named(axis: int, looked_at: tuple[float, ...], seen_at: tuple[float, ...]) -> None:
    velocity = torch.zeros(6)
    velocity[axis] = math.pi / 16
    end = carried(still(), velocity, 8)[-1]
    assert torch.allclose(end[:3, :3].T @ torch.tensor(looked_at), torch.tensor(seen_at), atol=1e-6)


def test_turning_right_is_what_the_key_for_it_does() -> None:
    keys = trace("d-24", MotionRules(smooth=False))[0][1:]
    assert torch.allclose(carried(still(), torch.tensor([0, 0, 0, 0, math.radians(0.6), 0]), 24), keys, atol=1e-6)


def test_moving_ahead_while_turning_is_an_arc_however_it_is_cut() -> None:
    velocity = torch.tensor([0, 0, 0.1, 0, 0.05, 0])
    whole = carried(still(), velocity, 40)
    halves = torch.cat([whole[:20], carried(whole[19], velocity, 20)])
    assert torch.allclose(whole, halves, atol=1e-6)
    centre = torch.tensor([2.0, 0, 0])  # speed over turn, to the right
    assert torch.allclose((whole[:, :3, 3] - centre).norm(dim=1), torch.full((40,), 2.0), atol=1e-5)


def test_a_thousand_steps_on_the_poses_are_still_rigid() -> None:
    pose = still()
    for number in range(1000):
        pose = carried(pose, torch.randn(6, generator=torch.Generator().manual_seed(number)) * 0.01, 24)[-1]
    check_poses(pose[None])
