"""Splines pass through their keys, are smooth between them, and survive keys at one place."""

import math
from collections.abc import Callable

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.splines import catmull_rom, rotation_matrix, same_side, slerp, spline_path, squad
from sana_wm.geometry.poses import check_poses


def keys(n: int = 6, width: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid(n: int, steps: int = 1000) -> torch.Tensor:
    return torch.linspace(0, n - 1, (n - 1) * steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_positions_pass_through_the_keys(alpha: float) -> None:
    P = keys()
    assert torch.allclose(catmull_rom(P, torch.arange(6.0), alpha), P)


def test_equally_spaced_keys_on_a_line_give_the_line() -> None:
    P = torch.arange(4.0)[:, None] * torch.tensor([1.0, 2.0, -1.0])
    u = grid(4, 7)
    assert torch.allclose(catmull_rom(P, u), u[:, None] * torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64))


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_positions_do_not_jump_at_a_key(alpha: float) -> None:
    steps = catmull_rom(keys(), grid(6), alpha).diff(dim=0).norm(dim=1)
    assert steps.max() < 0.01


def test_keys_at_one_place_hold_the_camera_still() -> None:
    P = keys()
    P[3] = P[2]
    path = catmull_rom(P, grid(6))
    assert torch.isfinite(path).all()
    assert torch.allclose(path[2000:3001], P[2].expand(1001, 3), atol=1e-3)
    assert torch.equal(catmull_rom(P[:1].expand(3, 3), grid(3)), P[:1].expand(2001, 3))


def test_orientations_pass_through_the_keys_whatever_their_sign_and_length() -> None:
    q = keys(width=4)
    flipped = q * torch.tensor([1.0, -2, 3, -1, 1, -1], dtype=torch.float64)[:, None]
    assert torch.allclose(rotation_matrix(squad(flipped, torch.arange(6.0))), rotation_matrix(q))
    assert torch.allclose(rotation_matrix(squad(flipped, grid(6, 9))), rotation_matrix(squad(q, grid(6, 9))))


def test_an_even_turn_stays_even() -> None:
    half = torch.arange(5, dtype=torch.float64) * math.radians(20)
    q = torch.stack((half.cos(), half * 0, half.sin(), half * 0), dim=1)
    u = grid(5, 10)
    expected = torch.stack(((u * math.radians(20)).cos(), u * 0, (u * math.radians(20)).sin(), u * 0), dim=1)
    assert torch.allclose(squad(q, u), expected)


def test_orientations_turn_smoothly_at_a_key() -> None:
    velocity = squad(same_side(keys(width=4)), grid(6)).diff(dim=0)
    assert velocity.diff(dim=0).norm(dim=1).max() < 1e-4


def test_slerp_takes_the_given_side() -> None:
    a = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    b = -torch.tensor([math.cos(0.1), math.sin(0.1), 0, 0], dtype=torch.float64)
    near, far = slerp(a, -b, torch.tensor([0.5])), slerp(a, b, torch.tensor([0.5]))
    assert near[0].item() == pytest.approx(math.cos(0.05))
    assert abs(far[0].item()) == pytest.approx(math.sin(0.05))


def test_a_path_of_poses_is_rigid() -> None:
    check_poses(spline_path(keys(), keys(width=4), grid(6, 20)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: catmull_rom(keys(1), torch.zeros(1)), r"keys has the shape \(1, 3\)"),
        (lambda: catmull_rom(keys(), torch.tensor([1.0, 5.1])), r"parameter 5.09.* must be in \[0, 5\]"),
        (lambda: catmull_rom(keys(), torch.tensor([float("nan")])), "parameter nan"),
        (lambda: catmull_rom(keys(), torch.zeros(1), alpha=2.0), "alpha is 2.0"),
        (lambda: squad(torch.zeros(3, 4), torch.zeros(1)), "quaternion 0 is"),
        (lambda: squad(keys(), torch.zeros(1)), r"quaternions have the shape \(6, 3\)"),
        (lambda: spline_path(keys(3), keys(4, 4), torch.zeros(1)), "3 key positions and 4 orientations"),
    ],
)
def test_wrong_keys_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
