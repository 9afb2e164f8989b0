"""Which token positions of a long encoded text the transformer sees (spec 30 section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.errors import InputError


def text_padded_length(n_prefix: int, max_tokens: int = 300) -> int:
    """Length L to which prefix + prompt is padded (and cut): `n_prefix + max_tokens - 2`.

    `n_prefix` counts the tokens of the instruction prefix alone, its BOS included.
    """
    if n_prefix < 1 or max_tokens < 2:
        raise InputError(f"n_prefix {n_prefix} must be at least 1 (BOS) and max_tokens {max_tokens} at least 2.")
    return n_prefix + max_tokens - 2


def text_token_positions(n_prefix: int, max_tokens: int = 300) -> Tensor:
    """Positions kept of the L encoded tokens: BOS, then the last `max_tokens - 1`; int64 (max_tokens,).

    Equals {0} and {n_prefix - 1, ..., L - 1}: the prefix steers the encoder but is not shown to the transformer,
    apart from the position of its last token, which normally fuses with the first word of the prompt.
    """
    length = text_padded_length(n_prefix, max_tokens)
    return torch.cat((torch.zeros(1, dtype=torch.int64), torch.arange(length - (max_tokens - 1), length)))
