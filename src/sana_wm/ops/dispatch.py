"""Who computes: the kernels, where there is a device, a compiler and a number format for them, or the plain twins."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_HAS_TRITON = importlib.util.find_spec("triton") is not None  # looked up once: a compiler cannot trace the search
_plain = False

KERNEL_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
"""What the kernels compute; they accumulate in float32, so float64 is left to the plain twins."""


def kernels_take(x: Tensor) -> bool:
    """Whether kernels work on this tensor, forward and backward."""
    return _HAS_TRITON and not _plain and x.device.type == "cuda" and x.dtype in KERNEL_DTYPES


def inference_kernels_take(x: Tensor) -> bool:
    """Whether kernels without gradients do: not in training."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or not kernels_take(x):
        return False
    return not torch.is_autocast_enabled(x.device.type)  # asked last: it knows no device without numbers


@contextmanager
def plain_only() -> Iterator[None]:
    """Within it the plain twins compute everywhere: for comparing, in tests and benchmarks."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before
