"""The scale of depth is found where both depths are known, is smoothed, and is never made up."""

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.depth_fusion import Weighting, depth_scales, fuse_depth, smooth_scales


def depths(frames: int = 3) -> torch.Tensor:
    return 1 + 4 * torch.rand(frames, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("weighting", ["moge", "structure"])
def test_a_known_scale_is_recovered_beside_broken_pixels(weighting: Weighting) -> None:
    a = depths()
    b = a * torch.tensor([0.5, 1.7, 3.0], dtype=torch.float64)[:, None, None]
    for k, broken in enumerate((float("nan"), float("inf"), 0.0, -2.0)):
        a[:, k, 0], b[:, k, 1] = broken, broken
    assert depth_scales(a, b, weighting).tolist() == pytest.approx([0.5, 1.7, 3.0])


def test_a_too_small_metric_depth_biases_only_the_weighting_by_it() -> None:
    a, b = depths(1), 2 * depths(1)
    b[0, 0, 0] = 1e-3
    assert depth_scales(a, b, "moge").item() < 0.1
    assert depth_scales(a, b, "structure").item() == pytest.approx(2.0, abs=0.1)


def test_a_frame_without_a_pixel_has_no_scale_and_carries_the_last_one() -> None:
    a, b = depths(), 2 * depths()
    b[1] = float("nan")
    raw = depth_scales(a, b)
    assert raw.isnan().tolist() == [False, True, False]
    assert smooth_scales(raw).tolist() == pytest.approx([2.0, 2.0, 2.0])


def test_the_running_mean_starts_at_the_first_scale_and_fills_back() -> None:
    raw = torch.tensor([float("nan"), 2.0, 3.0, float("nan"), 1.0])
    assert smooth_scales(raw, 0.9).tolist() == pytest.approx([2.0, 2.0, 2.1, 2.1, 1.99])
    assert smooth_scales(raw, 1.0).tolist() == [2.0] * 5


def test_a_bad_first_scale_can_be_outvoted() -> None:
    raw = torch.tensor([9.0, 2.0, 2.2, 2.0, 2.0])
    assert smooth_scales(raw)[-1].item() > 8.5
    assert smooth_scales(raw, median_first=3).tolist() == pytest.approx([2.2, 2.198, 2.19802, 2.1960398, 2.194079402])


def test_fused_depth_is_metric_and_keeps_its_holes() -> None:
    a = depths()
    a[0, 0, 0], a[1, 0, 0] = float("nan"), 0.0
    fused = fuse_depth(a, torch.tensor([2.0, 3.0, 4.0]))
    assert fused[0, 0, 0].isnan()
    assert fused[1, 0, 0].item() == 0.0
    assert torch.equal(fused[2], 4 * a[2])


def test_a_clip_without_any_scale_is_refused_instead_of_one() -> None:
    with pytest.raises(InputError, match="none of the 2 frames has a valid depth pixel"):
        smooth_scales(torch.full((2,), float("nan")))


def test_wrong_inputs_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"structure has the shape \(3, 6, 8\) and metric \(2, 6, 8\)"):
        depth_scales(depths(3), depths(2))
    with pytest.raises(InputError, match="weighting is 'flat'"):
        depth_scales(depths(), depths(), "flat")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"momentum is 1\.5"):
        smooth_scales(torch.ones(2), 1.5)
    with pytest.raises(InputError, match="median_first is 0"):
        smooth_scales(torch.ones(2), median_first=0)
    with pytest.raises(InputError, match=r"scales \(2,\)"):
        fuse_depth(depths(3), torch.ones(2))
