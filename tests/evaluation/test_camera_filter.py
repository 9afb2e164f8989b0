"""A clip passes only with a believable lens and a steady scale; what cannot be judged fails."""

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.camera_filter import check_camera

WH = (1280, 720)
STEADY = torch.tensor([1.0, 1.1, 0.9])


def lens(fx: float, fy: float) -> torch.Tensor:
    return torch.tensor([fx, fy, 640.0, 360.0])


def test_an_ordinary_camera_passes_with_its_numbers() -> None:
    check = check_camera(lens(900, 850), STEADY, WH)
    assert check.passed
    assert check.fov_deg == pytest.approx((70.834, 45.908), abs=1e-3)
    assert check.focal_divergence == pytest.approx(50 / 875)
    assert check.scale_cv == pytest.approx((0.02 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("intrinsics", "scales"),
    [
        (lens(300, 300), STEADY),
        (lens(1700, 1700), STEADY),
        (lens(1000, 800), STEADY),
        (lens(900, 900), torch.tensor([1e-3] * 8 + [1.0])),
        (lens(900, 900), torch.zeros(0)),
        (lens(900, 900), torch.tensor([1.0, float("nan")])),
        (lens(float("nan"), 900), STEADY),
        (lens(-900, -900), STEADY),
    ],
    ids=["too wide", "too narrow", "oblong pixels", "scale jumps", "no scale", "scale nan", "lens nan", "behind"],
)
def test_an_unbelievable_camera_fails(intrinsics: torch.Tensor, scales: torch.Tensor) -> None:
    assert not check_camera(intrinsics, scales, WH).passed


def test_the_median_frame_decides() -> None:
    rows = torch.stack([lens(900, 900), lens(910, 910), lens(100, 5000)])
    assert check_camera(rows, STEADY, WH).passed


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"intrinsics has the shape \(3, 3\)"):
        check_camera(torch.eye(3), STEADY, WH)
    with pytest.raises(InputError, match=r"scales have the shape \(1, 3\)"):
        check_camera(lens(900, 900), STEADY[None], WH)
