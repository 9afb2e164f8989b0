"""DPM-Solver++ 2M for flow models, with frames that stay clean (spec 21-samplers.md, 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.sampling.steps import OnStep, VelocityFn, finish_step, frame_timesteps, start


def flow_dpm_solver(
    velocity_fn: VelocityFn,
    latents: Tensor,
    sigmas: Tensor,
    *,
    clean_frames: Tensor,
    on_step: OnStep | None = None,
) -> Tensor:
    """Second-order multistep solver on x0 = x - t v; the first and the last step are of first order.

    Arguments and result are those of `flow_euler_ltx`; `sigmas` are meant to come from `dpm_times`. Clean frames have
    timestep 0 in every call and never change, so the image condition holds from the first step to the last.
    """
    latents, times, clean = start(latents, sigmas, clean_frames)
    num_steps = len(times) - 1
    t = torch.tensor(times, dtype=torch.float64)
    log_snr = torch.log((1.0 - t) / t)  # -inf at t = 1, +inf at t = 0: both are limits the formulas below pass through
    previous_x0 = latents
    for step in range(num_steps):
        velocity = velocity_fn(latents, frame_timesteps(latents, times[step], clean)).float()
        x0 = latents - times[step] * velocity
        h = log_snr[step + 1] - log_snr[step]
        estimate = x0
        if 0 < step < num_steps - 1:
            ratio = (log_snr[step] - log_snr[step - 1]) / h
            estimate = x0 + float(0.5 / ratio) * (x0 - previous_x0)
        keep = times[step + 1] / times[step]
        gain = -(1.0 - times[step + 1]) * float(torch.expm1(-h))
        latents = torch.where(clean, latents, keep * latents + gain * estimate)
        previous_x0 = x0
        finish_step(latents, step + 1, num_steps, on_step)
    return latents
