"""Camera paths are smooth, rigid, within human speeds, and follow from their generator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.worlds.paths import KINDS, MAX_YAW_RATE, WEIGHTS, key_sequence, random_paths


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _steps(paths: Tensor) -> Tensor:
    return (paths[:, 1:, :3, 3] - paths[:, :-1, :3, 3]).norm(dim=-1)


def _yaw_rates(paths: Tensor) -> Tensor:
    yaw = torch.atan2(paths[..., 0, 2].double(), paths[..., 2, 2].double())
    change = yaw[:, 1:] - yaw[:, :-1]
    return torch.rad2deg(torch.atan2(change.sin(), change.cos()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_frames", [2, 9, 81, 961])
def test_every_kind_gives_rigid_poses_above_ground_at_human_speed(kind: str, num_frames: int) -> None:
    paths = random_paths(6, num_frames, _generator(1), (kind,))
    assert paths.shape == (6, num_frames, 4, 4)
    assert paths.dtype == torch.float32
    rotation = paths[..., :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=2e-6, rtol=0)
    assert (torch.linalg.det(rotation) > 0.99).all()
    assert (paths[..., 1, 3] < -0.4).all()  # y is down: the camera stays above the ground
    assert _steps(paths).max() < 0.11
    pitch = torch.rad2deg(torch.asin(-paths[..., 1, 2].clamp(-1, 1)))
    assert pitch.abs().max() < 20.5


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "keys"])
def test_smooth_kinds_never_jerk(kind: str) -> None:
    paths = random_paths(16, 161, _generator(2), (kind,))
    velocity = paths[:, 1:, :3, 3] - paths[:, :-1, :3, 3]
    assert (velocity[:, 1:] - velocity[:, :-1]).norm(dim=-1).max() < 0.02
    assert _yaw_rates(paths).abs().max() < 1.5 * MAX_YAW_RATE


def test_typical_speeds_are_those_of_the_motion_model() -> None:
    steps = _steps(random_paths(200, 81, _generator(3), tuple(k for k in KINDS if k != "keys"))).mean(1)
    assert 0.02 < steps.median() < 0.04


def test_an_orbit_keeps_its_distance_and_faces_its_centre() -> None:
    path = random_paths(1, 161, _generator(4), ("orbit",))[0].double()
    place, ahead = path[:, [0, 2], 3], path[:, [0, 2], 2]
    ahead = ahead / ahead.norm(dim=-1, keepdim=True)
    # least squares for the point nearest to all lines of sight
    normal = torch.stack([-ahead[:, 1], ahead[:, 0]], -1)
    centre = torch.linalg.lstsq(normal, (normal * place).sum(-1, keepdim=True)).solution[:, 0]
    radius = (place - centre).norm(dim=-1)
    assert radius.std() / radius.mean() < 0.05
    assert 2 < radius.mean() < 9


def test_a_revisit_comes_back_through_the_same_poses() -> None:
    paths = random_paths(4, 81, _generator(5), ("revisit",))
    torch.testing.assert_close(paths, paths.flip(1))
    assert (_steps(paths).sum(1) > 0.3).all()


def test_a_stop_rests_for_a_while() -> None:
    steps = _steps(random_paths(8, 161, _generator(6), ("stop",)))
    assert ((steps < 1e-6).sum(1) >= 8).all()


def test_two_in_five_paths_are_driven_by_keys() -> None:
    assert 0.35 <= WEIGHTS[KINDS.index("keys")] <= 0.45
    assert sum(WEIGHTS) == pytest.approx(1)


def test_key_paths_obey_the_motion_model_of_action_strings() -> None:
    from sana_wm.geometry.actions import rollout

    keys = key_sequence(80, _generator(7))
    assert len(keys) == 80
    assert set().union(*keys) <= set("wasdijkl")
    path = rollout(keys, translation_speed=0.03, rotation_speed_deg=0.6, pitch_limit_deg=20.0)
    assert path.shape == (81, 4, 4)
    drawn = random_paths(4, 81, _generator(8), ("keys",))
    assert torch.equal(drawn[:, :1, 1, 3].expand(-1, 81), drawn[..., 1, 3])  # keys keep the height
    assert drawn[..., 1, 0].abs().max() < 1e-6  # and never roll


def test_the_same_generator_state_gives_the_same_paths() -> None:
    assert torch.equal(random_paths(5, 33, _generator(9)), random_paths(5, 33, _generator(9)))
    assert not torch.equal(random_paths(5, 33, _generator(9)), random_paths(5, 33, _generator(10)))


@pytest.mark.parametrize(
    ("num", "num_frames", "kinds"), [(0, 9, None), (1, 1, None), (1, 9, ("teleport",)), (1, 9, ())]
)
def test_counts_and_kinds_out_of_range_are_refused(num: int, num_frames: int, kinds: tuple[str, ...] | None) -> None:
    with pytest.raises(InputError):
        random_paths(num, num_frames, _generator(), kinds)
