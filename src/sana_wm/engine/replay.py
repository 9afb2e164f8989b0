"""Steps recorded once on a GPU and replayed, where launching their kernels takes longer than running them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LAUNCH_BOUND = 2**24
"""Numbers of tokens (batch * tokens * width) below which a GPU is done with a block before the next is launched: three
latent frames of the 2.6B model, or a minute of nano."""

Denoise = Callable[[Tensor, Tensor], Tensor]


class _Recording(NamedTuple):
    """A graph, the tensors that it reads and the one that it writes."""

    graph: torch.cuda.CUDAGraph
    latents: Tensor
    timesteps: Tensor
    velocity: Tensor


class Replayed:
    """Velocity of latents at timesteps, both of one shape for ever; the first call runs as it is, the second records.

    The first call compiles kernels and lets libraries choose theirs, which cannot be recorded. What was recorded keeps
    the memory of one call until this object is gone.
    """

    def __init__(self, denoise: Denoise) -> None:
        self._denoise = denoise
        self._warm = False
        self._recording: _Recording | None = None

    def __call__(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        if not self._warm:
            self._warm = True
            return self._denoise(latents, timesteps)
        recorded = self._recording = self._recording or self._record(latents, timesteps)
        recorded.latents.copy_(latents)
        recorded.timesteps.copy_(timesteps)
        recorded.graph.replay()
        return recorded.velocity.clone()

    def _record(self, latents: Tensor, timesteps: Tensor) -> _Recording:
        latents, timesteps = latents.clone(), timesteps.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            velocity = self._denoise(latents, timesteps)
        return _Recording(graph, latents, timesteps, velocity)


def replayed_if_short(denoise: Denoise, device: torch.device, numbers: int) -> Denoise:
    """`denoise`, recorded if it runs on a GPU that would wait for its launches; numbers: see `LAUNCH_BOUND`."""
    return Replayed(denoise) if device.type == "cuda" and numbers <= LAUNCH_BOUND else denoise
