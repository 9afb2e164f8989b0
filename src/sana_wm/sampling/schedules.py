"""Noise schedules: which sigmas a sampler visits, and the timesteps the network embeds (spec 21-samplers.md, 1.3, 2).

`x_sigma = (1 - sigma) x0 + sigma noise`; every schedule falls strictly from its first sigma to exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from sana_wm.errors import InputError

TIMESTEPS_PER_SIGMA = 1000.0
"""timestep = 1000 * sigma."""


def shift_sigma(sigmas: Tensor, flow_shift: float) -> Tensor:
    """Moves sigmas in [0, 1] towards 1: `s u / (1 + (s - 1) u)`, same shape and dtype."""
    return flow_shift * sigmas / (1.0 + (flow_shift - 1.0) * sigmas)


def euler_sigmas(num_steps: int, flow_shift: float) -> Tensor:
    """The (num_steps + 1,) float32 sigmas of the Euler samplers, from 1 down to 0 (spec 2.1).

    The low end is shifted twice, as the flow-match Euler scheduler the weights were published with does it.
    """
    _check(num_steps, flow_shift)
    lowest = shift_sigma(torch.tensor(1e-3, dtype=torch.float64), flow_shift).float().double()
    # linspace(1, lowest, num_steps) written out, so that one step is the plain [1]
    fraction = torch.arange(num_steps, dtype=torch.float64) / max(num_steps - 1, 1)
    sigmas = shift_sigma(1.0 + fraction * (lowest - 1.0), flow_shift)
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def dpm_times(num_steps: int, flow_shift: float) -> Tensor:
    """The (num_steps + 1,) float32 times of DPM-Solver++, from shift(0.999) down to exactly 0 (spec 2.3)."""
    _check(num_steps, flow_shift)
    fraction = torch.arange(num_steps, -1, -1, dtype=torch.float64) / num_steps
    return shift_sigma(0.999 * fraction, flow_shift).float()


def list_sigmas(timesteps: Sequence[float]) -> Tensor:
    """The (len,) sigmas of an explicit list such as 1000, 960, 889, 727, 0, taken verbatim (spec 2.2).

    They are float64, because some integers (251, 502, ...) do not survive a float32 sigma: through `model_timesteps`
    they would reach the network as one less. The samplers keep the precision they are given for the times.
    """
    if len(timesteps) < 2 or timesteps[-1] != 0:
        raise InputError(f"timesteps is {list(timesteps)}; it needs at least two entries, of which the last is 0")
    if not 0 < timesteps[0] <= TIMESTEPS_PER_SIGMA:
        raise InputError(f"timesteps starts at {timesteps[0]}; the first entry must be above 0 and at most 1000")
    for before, after in pairwise(timesteps):
        if not after < before:
            raise InputError(f"timesteps has {after} after {before}; every entry must be below the one before")
    return torch.tensor(list(timesteps), dtype=torch.float64) / TIMESTEPS_PER_SIGMA


def sigma_timesteps(sigmas: Tensor) -> Tensor:
    """1000 * sigma as float32, rounded once; integers of an explicit list come out exact. Same shape."""
    return (sigmas.double() * TIMESTEPS_PER_SIGMA).float()


def model_timesteps(sigmas: Tensor) -> Tensor:
    """(N,) int64: what the network embeds in a step, 1000 * sigma cut towards zero, without the last 0 (spec 1.3)."""
    return sigma_timesteps(sigmas[:-1]).trunc().long()


def _check(num_steps: int, flow_shift: float) -> None:
    if num_steps < 1:
        raise InputError(f"num_inference_steps is {num_steps}; it must be at least 1")
    if not (math.isfinite(flow_shift) and flow_shift > 0):
        raise InputError(f"flow_shift is {flow_shift}; it must be a number above 0")
