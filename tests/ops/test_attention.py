from __future__ import annotations

import torch

from sana_wm.ops.attention import softmax_attention


def test_attention_is_the_softmax_of_scaled_products_plus_bias() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 3, 8, generator=g, dtype=torch.float64) for n in (5, 7, 7))
    bias = torch.randn(2, 1, 1, 7, generator=g, dtype=torch.float64)
    logits = torch.einsum("bnhd,bmhd->bhnm", q, k) * 0.3 + bias
    expected = torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1), v)
    torch.testing.assert_close(softmax_attention(q, k, v, scale=0.3, bias=bias), expected)


def test_a_bias_of_minus_ten_thousand_hides_a_key_completely() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 4, 2, 8, generator=g) for _ in range(3))
    bias = torch.tensor([0.0, 0.0, -10_000.0, 0.0])[None, None, None]
    shown = [0, 1, 3]
    expected = softmax_attention(q, k[:, shown], v[:, shown], scale=0.35)
    torch.testing.assert_close(softmax_attention(q, k, v, scale=0.35, bias=bias), expected)
