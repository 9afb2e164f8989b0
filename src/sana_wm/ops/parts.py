"""A few frames at a time, so that what lies between two operations stays in a processor's cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOKENS = 512
"""Tokens worked on at once: enough rows for a product, few enough for a cache."""


def by_frames(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) of tokens (B,T,S,C), for functions in which frames do not see each other.

    On a CPU without gradients a few frames go through all of it before the next ones begin; elsewhere it is a call like
    any other. The numbers are the same but for the order in which products add up.
    """
    frames = max(1, TOKENS // (x.shape[0] * x.shape[2]))
    if x.device.type != "cpu" or torch.is_grad_enabled() or frames >= x.shape[1]:
        return function(x)
    return torch.cat([function(part) for part in x.split(frames, 1)], 1)
