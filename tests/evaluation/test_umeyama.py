"""A similarity is recovered exactly, is never a mirror, and its robust scale forgets gross outliers."""

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.umeyama import metric_scale, straightness, umeyama
from tests.evaluation.camera_paths import moved, straight, turned, winding


def cloud(n: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_similarity_is_recovered() -> None:
    x, R, t = cloud(), turned((1, 2, 3), 50.0), torch.tensor([3.0, -1.0, 7.0], dtype=torch.float64)
    found = umeyama(x, 0.7 * x @ R.mT + t)
    assert found.scale == pytest.approx(0.7)
    assert torch.allclose(found.rotation, R)
    assert torch.allclose(found.translation, t)


def test_float32_points_far_from_the_origin_are_fitted_in_float64() -> None:
    x = cloud() + 1000.0
    found = umeyama(x.float(), (2 * x).float())
    assert found.rotation.dtype == torch.float64
    assert found.scale == pytest.approx(2.0, abs=1e-4)


def test_a_mirrored_cloud_is_not_reflected() -> None:
    x = cloud()
    mirrored = x * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    assert torch.linalg.det(umeyama(x, mirrored).rotation).item() == pytest.approx(1.0)


def test_a_scale_of_one_can_be_forced() -> None:
    x = cloud()
    rigid = umeyama(x, 3 * x, with_scale=False)
    assert rigid.scale == 1.0
    assert torch.allclose(rigid.rotation, torch.eye(3, dtype=torch.float64))


def test_the_scale_of_a_straight_path_is_right_although_its_rotation_is_not_known() -> None:
    centres = straight()[:, :3, 3]
    found = umeyama(centres, 4 * centres)
    assert found.scale == pytest.approx(4.0)
    assert straightness(centres) < 1e-12
    assert straightness(winding()[:, :3, 3]) > 0.1
    assert straightness(centres[:1].expand(5, 3)) == 0.0


def test_poses_stay_rigid_under_a_similarity() -> None:
    path = winding()
    found = umeyama(path[:, :3, 3], moved(path)[:, :3, 3])
    assert torch.allclose(found.apply_to_poses(path), moved(path))


def test_the_robust_scale_holds_with_a_fifth_of_gross_outliers() -> None:
    x = cloud(50, seed=1)
    y = 1.3 * x @ turned((0, 1, 0), 20.0).mT
    y[::5] += 3.0 * cloud(10, seed=2)
    found = metric_scale(x, y)
    assert found.fit.scale == pytest.approx(1.3, rel=0.01)
    assert abs(found.first_fit.scale - 1.3) > abs(found.fit.scale - 1.3)
    assert int(found.inlier.sum()) == 40
    assert bool((found.residual[found.inlier] <= found.threshold).all())


@pytest.mark.parametrize(
    ("src", "dst", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 3), r"src has the shape \(4, 2\)"),
        (torch.zeros(1, 3), torch.zeros(1, 3), "at least 2"),
        (torch.randn(4, 3), torch.randn(5, 3), "src holds 4 points and dst 5"),
        (torch.full((4, 3), float("nan")), torch.zeros(4, 3), "src holds a value that is not finite"),
        (torch.full((4, 3), 0.1), torch.randn(4, 3), "all 4 points of src are the same"),
    ],
)
def test_points_without_a_similarity_are_refused(src: torch.Tensor, dst: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        umeyama(src, dst)


def test_a_percentile_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="percentile is 0"):
        metric_scale(cloud(), cloud(), percentile=0)
