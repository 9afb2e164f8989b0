"""Rays meet the points they should, ray frames are rigid, and neither batches, autocast nor gradients change them."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.geometry.actions import rollout
from sana_wm.geometry.poses import compose
from sana_wm.geometry.rays import plucker_map, ray_directions, ray_from_world

INTRINSICS = torch.tensor([5.0, 4.5, 3.2, 2.1])


def cameras(T: int = 3) -> Tensor:
    c2w = rollout("wdi-10,l-10", rotation_speed_deg=2.0)[:: 20 // max(T - 1, 1)][:T]
    return torch.cat((c2w.flatten(1), INTRINSICS.expand(T, 4)), dim=1)


def test_a_point_of_the_world_lies_on_the_ray_of_its_pixel() -> None:
    c2w = rollout("wdi-15", rotation_speed_deg=2.0)[-1]
    x, y, depth = 4, 1, 3.0
    direction = ray_directions(INTRINSICS, 4, 6)[y, x]
    point = (c2w @ torch.cat((depth * direction, torch.ones(1))))[:3]
    d, m = plucker_map(c2w, INTRINSICS, 4, 6)[:, y, x].split(3)
    torch.testing.assert_close(torch.linalg.cross(point, d), m, atol=1e-6, rtol=0)
    P, _ = ray_from_world(torch.cat((c2w.flatten(), INTRINSICS))[None, None], 4, 6)
    seen = P[0, y * 6 + x] @ torch.cat((point, torch.ones(1)))
    torch.testing.assert_close(seen[:3], torch.tensor([0.0, 0.0, float((depth * direction).norm())]), atol=1e-5, rtol=0)


def test_the_pixel_at_the_principal_point_looks_along_the_optical_axis() -> None:
    c2w = rollout("d-30")[-1]
    d = plucker_map(c2w, torch.tensor([5.0, 5.0, 3.0, 2.0]), 4, 6)[:3, 2, 3]
    torch.testing.assert_close(d, c2w[:3, 2], atol=1e-7, rtol=0)


def test_ray_frames_are_rotations_about_the_camera_centre_and_inverses_are_inverse() -> None:
    P, P_inv = ray_from_world(cameras()[None], 3, 5)
    assert P.shape == P_inv.shape == (1, 45, 4, 4)
    identity = torch.eye(4).expand_as(P)
    torch.testing.assert_close(compose(P, P_inv), identity, atol=1e-6, rtol=0)
    assert torch.linalg.det(P).sub(1).abs().max() < 1e-5
    centres = cameras()[:, :16].reshape(3, 4, 4)[:, :3, 3].repeat_interleave(15, 0)
    torch.testing.assert_close(P_inv[0, :, :3, 3], centres, atol=1e-6, rtol=0)


def test_tokens_are_ordered_by_time_then_row_then_column() -> None:
    P, _ = ray_from_world(cameras()[None], 3, 5)
    alone, _ = ray_from_world(cameras()[None, 2:], 3, 5)
    assert torch.equal(P[0, 30:], alone[0])


def test_a_batch_gives_what_its_items_give() -> None:
    batch = torch.stack((cameras(), cameras().flip(0)))
    P, P_inv = ray_from_world(batch, 3, 5)
    for item, (p, p_inv) in zip(batch, zip(P, P_inv, strict=True), strict=True):
        single = ray_from_world(item[None], 3, 5)
        assert torch.equal(p, single[0][0])
        assert torch.equal(p_inv, single[1][0])


def test_autocast_takes_no_precision_from_the_geometry() -> None:
    plain = ray_from_world(cameras()[None], 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        cast = ray_from_world(cameras()[None], 3, 5)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_rounding_the_cameras_is_possible_and_off_by_default() -> None:
    exact = ray_from_world(cameras()[None], 3, 5)[0]
    rounded = ray_from_world(cameras()[None], 3, 5, camera_dtype=torch.bfloat16)[0]
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, ray_from_world(cameras()[None].bfloat16(), 3, 5)[0])
    assert (exact - rounded).abs().max() > 1e-4


def test_gradients_reach_the_cameras_and_are_finite() -> None:
    conditions = cameras()[None].requires_grad_()
    P, P_inv = ray_from_world(conditions, 3, 5)
    (P.square().sum() + P_inv[..., 3].sum()).backward()
    assert conditions.grad is not None
    assert torch.isfinite(conditions.grad).all()
    assert conditions.grad.abs().sum() > 0
