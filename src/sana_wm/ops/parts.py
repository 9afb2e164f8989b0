"""A few frames at a time, so that what lies between two operations stays in a processor's cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOKENS = 768
"""Tokens worked on at once: enough rows for a product, few enough for a cache."""


def by_frames(function: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
    """function(*tokens) of tokens (B,T,S,C), for functions in which frames do not see each other.

    On a CPU without gradients a few frames go through all of it before the next ones begin; elsewhere it is a call like
    any other. The numbers are the same but for the order in which products add up.
    """
    batch, length, size = tokens[0].shape[:3]
    frames = max(1, TOKENS // (batch * size))
    if tokens[0].device.type != "cpu" or torch.is_grad_enabled() or frames >= length:
        return function(*tokens)
    return torch.cat([function(*parts) for parts in zip(*(x.split(frames, 1) for x in tokens), strict=True)], 1)
