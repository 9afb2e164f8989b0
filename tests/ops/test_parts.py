"""Frames that do not see each other may be worked on a few at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.ops.gated_delta import write_terms
from sana_wm.ops.parts import TOKENS, by_frames
from sana_wm.ops.temporal_conv import symmetric_short_conv, temporal_mix


def tokens(seed: int, frames: int = 7, size: int = TOKENS // 3) -> Tensor:
    return torch.randn(1, frames, size, 8, generator=torch.Generator().manual_seed(seed))


def test_parts_give_what_the_whole_gives_and_are_few_frames_each() -> None:
    seen: list[int] = []

    def function(x: Tensor, y: Tensor) -> Tensor:
        seen.append(x.shape[1])
        return x * y.cumsum(2)

    x, y = tokens(0), tokens(1)
    with torch.no_grad():
        found = by_frames(function, x, y)
    assert seen == [3, 3, 1]
    assert torch.equal(found, function(x, y))


def test_gradients_see_one_call() -> None:
    calls: list[Tensor] = []
    by_frames(lambda x: calls.append(x) or x, tokens(0).requires_grad_())
    assert len(calls) == 1


def test_write_terms_and_temporal_mix_are_the_same_with_and_without_gradients() -> None:
    k = tokens(2).unflatten(-1, (2, 4)).permute(0, 3, 1, 2, 4)
    beta = torch.rand(k.shape[:-1], generator=torch.Generator().manual_seed(3))
    weight = torch.randn(8, 8, 3, 1, generator=torch.Generator().manual_seed(4))
    whole = (*write_terms(k, 2 * k, beta), temporal_mix(tokens(5), weight))
    with torch.no_grad():
        parts = (*write_terms(k, 2 * k, beta), temporal_mix(tokens(5), weight))
    for expected, found in zip(whole, parts, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_autocast_does_not_round_the_filter_of_float32_tokens() -> None:
    x = tokens(6)
    weight = torch.randn(8, 1, 4, generator=torch.Generator().manual_seed(7))
    expected = symmetric_short_conv(x, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(symmetric_short_conv(x, weight), expected)
