"""The staircase sampler of the chunk-causal model: chunks start one after another (spec 21-samplers.md, 6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.chunks import staircase_start_steps
from sana_wm.sampling.steps import OnStep, VelocityFn, finish_step, frame_timesteps, start


def chunk_flow_euler(
    velocity_fn: VelocityFn,
    latents: Tensor,
    sigmas: Tensor,
    *,
    chunk_starts: Sequence[int],
    clean_frames: Tensor,
    interval: float | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Euler steps on a growing prefix of chunks; chunk i begins `floor(i * interval * N)` steps after chunk 0.

    velocity_fn is called with the prefix alone (latents (B,C,E,H,W), timesteps (B,1,E), E the end of the last chunk
    that has begun) and cuts its cameras to it; finished chunks stay in the prefix at timestep 0.
    chunk_starts: first frames of the chunks, 0 first. interval: a share of the N steps, 1 / chunks by default; at 1 a
    chunk begins when the one before is done. Other arguments and the result are those of `flow_euler_ltx`.
    """
    latents, times, clean = start(latents, sigmas, clean_frames)
    num_frames, num_chunks, num_steps = latents.shape[2], len(chunk_starts), len(times) - 1
    bounds = [*chunk_starts, num_frames]
    if bounds[0] != 0 or any(b <= a for a, b in pairwise(bounds)):
        raise InputError(
            f"chunk_starts is {list(chunk_starts)}; it must rise strictly from 0 "
            f"and stay below the {num_frames} latent frames"
        )
    chunk_of_frame = torch.bucketize(torch.arange(num_frames), torch.tensor(list(chunk_starts)), right=True) - 1
    first_steps = torch.tensor(list(staircase_start_steps(num_chunks, num_steps, interval)))
    schedule = torch.tensor([*times, 0.0], dtype=torch.float64)  # the second 0: a finished chunk goes nowhere
    num_calls = int(first_steps[-1]) + num_steps
    for call in range(num_calls):
        end = bounds[int((first_steps <= call).sum())]
        local = (call - first_steps)[chunk_of_frame[:end]].clamp(max=num_steps)
        sigma, following = schedule[local], schedule[local + 1]
        prefix, clean_prefix = latents[:, :, :end], clean[:, :, :end]
        velocity = velocity_fn(prefix, frame_timesteps(prefix, sigma, clean_prefix)).float()
        stride = (sigma - following).float().to(latents.device).view(1, 1, -1, 1, 1)
        moved = torch.where(clean_prefix, prefix, prefix - stride * velocity)
        latents = torch.cat([moved, latents[:, :, end:]], dim=2)
        finish_step(latents, call + 1, num_calls, on_step)
    return latents
