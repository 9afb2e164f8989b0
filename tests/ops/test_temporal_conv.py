from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.temporal_conv import symmetric_short_conv, temporal_mix

B, S, C = 2, 3, 4


def video(frames: int) -> Tensor:
    return torch.randn(B, frames, S, C, generator=torch.Generator().manual_seed(frames), dtype=torch.float64)


def per_position(x: Tensor) -> Tensor:
    """(B, T, S, C) -> (B*S, C, T)."""
    return x.permute(0, 2, 3, 1).flatten(0, 1)


def back(x: Tensor) -> Tensor:
    return x.unflatten(0, (B, S)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("kernel", [1, 2, 4])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
def test_the_short_conv_is_a_convolution_with_mirrored_taps(frames: int, kernel: int) -> None:
    """Also for clips that are shorter than the filter."""
    x = video(frames)
    weight = torch.randn(C, 1, kernel, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mirrored = torch.cat([weight, weight[..., :-1].flip(-1)], dim=-1)  # w0 w1 w2 w3 w2 w1 w0
    expected = back(F.conv1d(per_position(x), mirrored, padding=kernel - 1, groups=C))
    torch.testing.assert_close(symmetric_short_conv(x, weight), expected)


def test_the_identity_taps_change_nothing() -> None:
    weight = torch.zeros(C, 1, 4, dtype=torch.float64)
    weight[..., -1] = 1
    assert torch.equal(symmetric_short_conv(video(5), weight), video(5))


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_the_temporal_mix_is_a_dense_convolution(frames: int) -> None:
    x = video(frames)
    weight = torch.randn(6, C, 3, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = back(F.conv1d(per_position(x), weight[..., 0], padding=1))
    torch.testing.assert_close(temporal_mix(x, weight), expected)


@pytest.mark.parametrize("frames", [1, 3])
def test_the_gradients_of_both_are_their_slopes(frames: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = video(frames).requires_grad_()
    short = torch.randn(C, 1, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    dense = torch.randn(C, C, 3, 1, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(symmetric_short_conv, (x, short))
    assert torch.autograd.gradcheck(temporal_mix, (x, dense))
