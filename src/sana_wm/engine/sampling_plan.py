"""Which sampler runs, with which numbers: a model's own settings, and what a request changes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.models.config import PipelineSettings
from sana_wm.sampling import OnStep, VelocityFn, dpm_times, euler_sigmas, flow_dpm_solver, flow_euler_ltx, needs_uncond

MAX_STEPS = 1000
"""Steps beyond this ask for the same timestep twice."""


@dataclass(frozen=True)
class SamplingPlan:
    """A sampler and its numbers, checked."""

    num_inference_steps: int
    guidance_scale: float
    flow_shift: float
    sampler: Literal["flow_euler_ltx", "flow_dpm-solver"]

    def __post_init__(self) -> None:
        check_sampling(self.num_inference_steps, self.guidance_scale, self.flow_shift)

    @classmethod
    def of(
        cls,
        settings: PipelineSettings,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        flow_shift: float | None = None,
    ) -> SamplingPlan:
        """The settings of a model, apart from what is not None."""
        return cls(
            settings.num_inference_steps if num_inference_steps is None else num_inference_steps,
            settings.guidance_scale if guidance_scale is None else guidance_scale,
            settings.flow_shift if flow_shift is None else flow_shift,
            settings.sampler,
        )

    @property
    def uses_negative(self) -> bool:
        """Whether the network runs on the negative prompt as well."""
        return needs_uncond(self.guidance_scale)

    def run(
        self, velocity_fn: VelocityFn, latents: Tensor, clean_frames: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        """Sample; `velocity_fn` already guides. Arguments and errors as in :func:`~sana_wm.sampling.flow_euler_ltx`."""
        if self.sampler == "flow_euler_ltx":
            sigmas = euler_sigmas(self.num_inference_steps, self.flow_shift)
            return flow_euler_ltx(velocity_fn, latents, sigmas, clean_frames=clean_frames, on_step=on_step)
        times = dpm_times(self.num_inference_steps, self.flow_shift)
        return flow_dpm_solver(velocity_fn, latents, times, clean_frames=clean_frames, on_step=on_step)


def check_sampling(
    num_inference_steps: int | None = None, guidance_scale: float | None = None, flow_shift: float | None = None
) -> None:
    """Refuse numbers that no sampler can work with; None is the model's own.

    Raises:
        InputError: steps not in 1 ... 1000, a negative guidance scale, a flow shift of 0 or less, or not a number.
    """
    steps = 1 if num_inference_steps is None else num_inference_steps
    if steps > MAX_STEPS:
        raise InputError(f"num_inference_steps is {steps}; it must be at most {MAX_STEPS}.")
    euler_sigmas(steps, 1.0 if flow_shift is None else flow_shift)
    needs_uncond(1.0 if guidance_scale is None else guidance_scale)
