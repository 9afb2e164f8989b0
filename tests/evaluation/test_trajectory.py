"""Our own paths keep their speed limits, stay clear of the scene, and say which limit cannot be kept."""

import math

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.trajectory import (
    HARD,
    SIMPLE,
    WHIP_PAN,
    KeyPoses,
    Limits,
    clearances,
    fit_path,
    retime,
    speeds,
    turn_rates_deg,
)
from sana_wm.geometry.poses import check_poses
from tests.evaluation.camera_paths import winding

FPS, FRAMES = 16.0, 961
NOTHING = torch.zeros(0, 3)


def quaternions(yaw_deg: list[float]) -> torch.Tensor:
    half = torch.tensor(yaw_deg, dtype=torch.float64) * math.pi / 360
    return torch.stack((half.cos(), half * 0, half.sin(), half * 0), dim=1)


def forward(amplitude: float, length: float = 0.8) -> KeyPoses:
    z = torch.tensor([0.0, 0.1, 0.6, 1.0], dtype=torch.float64) * length * amplitude
    return KeyPoses(torch.stack((z * 0, z * 0, z), dim=1), quaternions([0, 10, 30, 0]))


def test_speeds_and_turn_rates_are_per_second() -> None:
    path = winding(33)
    assert speeds(path, 16.0).shape == (32,)
    assert speeds(path, 16.0).sum().item() / 16 == pytest.approx(
        float(path[:, :3, 3].diff(dim=0).norm(dim=1).sum()), rel=1e-12
    )
    assert turn_rates_deg(path, 16.0).tolist() == pytest.approx([90 / 32 * 16] * 32)


def test_a_path_starts_and_stops_softly_and_keeps_its_keys() -> None:
    c2w = retime(forward(1.0), FRAMES, SIMPLE, scale=1.0)
    check_poses(c2w)
    assert torch.allclose(c2w[0], torch.eye(4, dtype=torch.float64), atol=1e-9)
    assert c2w[-1, :3, 3].tolist() == pytest.approx([0, 0, 0.8], abs=1e-9)
    rate = speeds(c2w, FPS)
    assert max(rate[0], rate[-1]) < 0.02 * rate.max()


def test_where_only_the_place_changes_equal_times_are_equal_lengths_under_the_ease() -> None:
    keys = KeyPoses(forward(1.0).positions, quaternions([0] * 4))
    z = retime(keys, 101, SIMPLE, scale=1.0)[:, 2, 3]
    ease = 0.8 * (1 - torch.cos(torch.linspace(0, math.pi, 101, dtype=torch.float64))) / 2
    assert torch.allclose(z, ease, atol=1e-4)


def test_a_pan_on_the_spot_gets_time() -> None:
    keys = KeyPoses(torch.zeros(3, 3), quaternions([0, 180, 0]))
    rate = turn_rates_deg(retime(keys, FRAMES, WHIP_PAN, scale=1.0), FPS)
    assert rate.max() < 360 / 60 * math.pi / 2 * 1.05


@pytest.mark.parametrize("limits", [SIMPLE, HARD])
def test_a_fitted_path_keeps_every_limit(limits: Limits) -> None:
    points = torch.tensor([[0.0, 0.0, 3.5], [float("nan")] * 3])
    fitted = fit_path(lambda a: forward(a, length=9.0), FRAMES, FPS, limits, 2.0, points)
    assert fitted.amplitude < 1
    assert fitted.clearance >= 0.15 * 2.0
    assert speeds(fitted.c2w, FPS).max() <= limits.speed * 2.0 * (1 + 1e-9)
    assert turn_rates_deg(fitted.c2w, FPS).max() <= limits.turn_rate_deg * (1 + 1e-9)


def test_the_amplitude_shrinks_only_as_far_as_it_must() -> None:
    free = fit_path(forward, FRAMES, FPS, SIMPLE, 1.0, NOTHING)
    assert (free.amplitude, free.clearance) == (1.0, math.inf)
    wall = torch.tensor([[0.0, 0.0, 0.85]])
    assert fit_path(forward, FRAMES, FPS, SIMPLE, 1.0, wall).amplitude == pytest.approx(0.8)


def test_a_path_that_cannot_fit_says_why() -> None:
    at_the_start = torch.tensor([[0.0, 0.05, 0.0]])
    with pytest.raises(InputError, match=r"amplitude 0.168: it comes within 0.05 units .* at least 0.15 is asked"):
        fit_path(forward, FRAMES, FPS, SIMPLE, 1.0, at_the_start)
    with pytest.raises(InputError, match="its speed reaches"):
        fit_path(lambda a: forward(a, 50.0), FRAMES, FPS, SIMPLE, 1.0, NOTHING)
    with pytest.raises(InputError, match="it turns at up to"):
        fit_path(lambda a: forward(a, 0.01), 33, FPS, SIMPLE, 1.0, NOTHING)


def test_clearance_is_the_distance_to_the_nearest_finite_point() -> None:
    path = winding(5)
    points = torch.cat((path[2:3, :3, 3] + torch.tensor([0.0, 0.3, 0.0]), torch.full((1, 3), float("inf"))))
    found = clearances(path, points)
    assert found[2].item() == pytest.approx(0.3)
    assert (found >= 0.3 - 1e-12).all()
    assert clearances(path, NOTHING).tolist() == [math.inf] * 5


def test_wrong_inputs_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="num_frames is 1"):
        retime(forward(1.0), 1, SIMPLE, 1.0)
    with pytest.raises(InputError, match="scene scale is 0"):
        retime(forward(1.0), 10, SIMPLE, 0.0)
    with pytest.raises(InputError, match="4 key poses are all the same"):
        retime(KeyPoses(torch.zeros(4, 3), quaternions([0] * 4)), 10, SIMPLE, 1.0)
    with pytest.raises(InputError, match="speed of the limits is 0"):
        Limits(speed=0, turn_rate_deg=1)
    with pytest.raises(InputError, match=r"points has the shape \(3,\)"):
        clearances(winding(3), torch.zeros(3))
