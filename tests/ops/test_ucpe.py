"""Camera transforms of attention features: relative, reversible, blind to the choice of world."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.geometry.poses import compose, rigid
from sana_wm.geometry.rays import ray_from_world
from sana_wm.ops.rotary import rotary_table
from sana_wm.ops.ucpe import RayFrames

T, H, W, D = 3, 2, 3, 16


def poses(seed: int, count: int) -> Tensor:
    """Random rotations and offsets of about a unit, (count, 4, 4) float32."""
    g = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=g, dtype=torch.float64))
    rotation = rotation * rotation.det().sign()[:, None, None]
    return rigid(rotation, torch.randn(count, 3, generator=g, dtype=torch.float64)).float()


def ray_frames(c2w: Tensor) -> RayFrames:
    intrinsics = torch.tensor([2.0, 2.2, 1.4, 0.9]).expand(T, 4)
    conditions = torch.cat([c2w.flatten(-2), intrinsics], dim=-1)[None]
    return RayFrames(*ray_from_world(conditions, H, W), *rotary_table(torch.arange(T), H, W, D, camera=True))


def features(seed: int) -> Tensor:
    return torch.randn(1, T * H * W, 2, D, generator=torch.Generator().manual_seed(seed))


def attended(rays: RayFrames) -> Tensor:
    """What linear attention would return for every token."""
    q, k, v = rays.query.of(features(1)), rays.key_value.of(features(2)), rays.key_value.of(features(3))
    logits = torch.einsum("bnhd,bmhd->bhnm", q, k)
    return rays.output.of(torch.einsum("bhnm,bmhd->bnhd", logits, v))


def test_the_choice_of_world_has_no_influence() -> None:
    """Products and outputs depend on how cameras lie to each other: moving all of them together changes nothing."""
    c2w = poses(0, T)
    moved = compose(poses(1, 1), c2w)
    torch.testing.assert_close(attended(ray_frames(moved)), attended(ray_frames(c2w)), rtol=1e-3, atol=2e-3)


def test_moving_one_camera_changes_what_it_reads() -> None:
    c2w = poses(0, T)
    other = c2w.clone()
    other[1, :3, 3] += 0.5
    assert not torch.allclose(attended(ray_frames(other)), attended(ray_frames(c2w)), atol=0.1)


def test_a_token_that_reads_itself_gets_its_own_value_back() -> None:
    rays = ray_frames(poses(0, T))
    torch.testing.assert_close(rays.output.of(rays.key_value.of(features(0))), features(0), rtol=1e-4, atol=1e-4)


def test_the_maps_are_the_matrices_of_the_specification() -> None:
    """Query: P transposed; keys and values: P inverse; output: P. The second half turns by the sub-table's angles."""
    rays, x = ray_frames(poses(0, T)), features(0)
    groups = x[..., : D // 2].unflatten(-1, (-1, 4))
    inverse = torch.linalg.inv(rays.ray_from_world.double()).float()
    angle = torch.complex(rays.cos, rays.sin)[:, None]
    turned = torch.view_as_complex(x[..., D // 2 :].unflatten(-1, (-1, 2)).contiguous())
    for found, matrix, turn in (
        (rays.query.of(x), rays.ray_from_world.mT, angle),
        (rays.key_value.of(x), inverse, angle),
        (rays.output.of(x), rays.ray_from_world, angle.conj()),
    ):
        expected = torch.einsum("bnij,bnhgj->bnhgi", matrix, groups).flatten(-2)
        torch.testing.assert_close(found[..., : D // 2], expected, rtol=1e-4, atol=1e-4)
        expected = torch.view_as_real(turned * turn).flatten(-2)
        torch.testing.assert_close(found[..., D // 2 :], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_result_is_float32_whatever_comes_in(dtype: torch.dtype) -> None:
    assert ray_frames(poses(0, T)).query.of(features(0).to(dtype)).dtype == torch.float32
