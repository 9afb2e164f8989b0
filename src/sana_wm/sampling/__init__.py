"""Noise schedules and solvers. They know velocities and sigmas, nothing of cameras, prompts or files (spec 21)."""

from sana_wm.sampling.chunk_step import ChunkModel, flow_renoise, next_chunk
from sana_wm.sampling.dpm import flow_dpm_solver
from sana_wm.sampling.euler import flow_euler_ltx
from sana_wm.sampling.guidance import guided, needs_uncond
from sana_wm.sampling.schedules import dpm_times, euler_sigmas, list_sigmas, model_timesteps
from sana_wm.sampling.staircase import chunk_flow_euler
from sana_wm.sampling.steps import OnStep, SamplingError, VelocityFn

__all__ = [
    "ChunkModel",
    "OnStep",
    "SamplingError",
    "VelocityFn",
    "chunk_flow_euler",
    "dpm_times",
    "euler_sigmas",
    "flow_dpm_solver",
    "flow_euler_ltx",
    "flow_renoise",
    "guided",
    "list_sigmas",
    "model_timesteps",
    "needs_uncond",
    "next_chunk",
]
