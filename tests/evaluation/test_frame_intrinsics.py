"""Every frame's lens is recovered from where its pixels go, by Jacobians that are the true derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.frame_intrinsics import gauss_newton_step, reproject
from sana_wm.geometry.poses import inverse_rigid
from tests.evaluation.camera_paths import winding

EDGES = torch.tensor([[i, j] for i in range(4) for j in range(4) if i != j])


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Intrinsics that zoom, poses that turn a little, and disparity of an uneven surface a few units away."""
    generator = torch.Generator().manual_seed(0)
    zoom = torch.linspace(1.0, 1.8, 4, dtype=torch.float64)
    lens = torch.stack((9 * zoom, 10 * zoom, 4 + 0.1 * zoom, 3 - 0.1 * zoom), dim=1)
    disparity = 0.15 + 0.15 * torch.rand(4, 6, 8, generator=generator, dtype=torch.float64)
    return lens, inverse_rigid(winding(80)[:4]), disparity


def test_a_pixel_seen_from_its_own_frame_stays() -> None:
    lens, w2c, disparity = scene()
    coords = reproject(lens, w2c, disparity, torch.tensor([[2, 2]])).coords[0]
    assert coords[5, 3].tolist() == pytest.approx([3.0, 5.0])


def test_the_jacobians_are_the_derivatives_of_the_coordinates() -> None:
    lens, w2c, disparity = scene()
    seen = reproject(lens, w2c, disparity, EDGES)
    step = 1e-6
    for edge in (0, 5, 11):
        for frame, jacobian in zip(EDGES[edge].tolist(), (seen.jac_source[edge], seen.jac_target[edge]), strict=True):
            for column in range(4):
                up, down = lens.clone(), lens.clone()
                up[frame, column] += step
                down[frame, column] -= step
                high, low = (reproject(k, w2c, disparity, EDGES[edge : edge + 1]).coords[0] for k in (up, down))
                assert torch.allclose((high - low) / (2 * step), jacobian[..., column], atol=1e-6)


def test_a_zoom_is_recovered_frame_by_frame() -> None:
    lens, w2c, disparity = scene()
    target = reproject(lens, w2c, disparity, EDGES).coords
    found = lens * 1.1
    for _ in range(12):
        found = gauss_newton_step(found, w2c, disparity, EDGES, target, torch.ones_like(target))
    assert torch.allclose(found, lens, rtol=0.01)


def test_a_frame_without_an_edge_keeps_its_lens() -> None:
    lens, w2c, disparity = scene()
    edges = EDGES[(EDGES != 3).all(dim=1)]
    target = reproject(lens, w2c, disparity, edges).coords
    found = gauss_newton_step(lens * 1.1, w2c, disparity, edges, target, torch.ones_like(target))
    assert torch.equal(found[3], lens[3] * 1.1)
    assert not torch.equal(found[0], lens[0] * 1.1)


def test_a_pixel_without_weight_has_no_say_even_where_it_is_not_finite() -> None:
    lens, w2c, disparity = scene()
    target = reproject(lens, w2c, disparity, EDGES).coords
    weight = torch.ones_like(target)
    weight[0, 2, 2] = 0
    clean = gauss_newton_step(lens * 1.1, w2c, disparity, EDGES, target, weight)
    target[0, 2, 2] = float("nan")
    assert torch.equal(gauss_newton_step(lens * 1.1, w2c, disparity, EDGES, target, weight), clean)


def test_a_step_to_a_negative_focal_length_is_not_taken() -> None:
    lens, w2c, disparity = scene()
    seen = reproject(lens, w2c, disparity, EDGES).coords
    found = gauss_newton_step(lens, w2c, disparity, EDGES, 8 - 20 * seen, torch.ones_like(seen))
    assert (found[:, :2] > 0).all()


def test_inputs_of_other_frames_are_refused() -> None:
    lens, w2c, disparity = scene()
    with pytest.raises(InputError, match="an edge names frame 4; the frames are 0 to 3"):
        reproject(lens, w2c, disparity, torch.tensor([[0, 4]]))
    with pytest.raises(InputError, match="3 intrinsics, 4 poses"):
        reproject(lens[:3], w2c, disparity, EDGES)
    with pytest.raises(InputError, match=r"edges is torch\.float32"):
        reproject(lens, w2c, disparity, EDGES.float())
    with pytest.raises(InputError, match="focal lengths above 0"):
        reproject(-lens, w2c, disparity, EDGES)
    seen = torch.zeros(12, 6, 8)
    with pytest.raises(InputError, match=r"target has the shape \(12, 6, 8\)"):
        gauss_newton_step(lens, w2c, disparity, EDGES, seen, seen)
