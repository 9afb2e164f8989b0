"""With which numbers chunks are sampled: a model's own settings, and what a request changes of them."""

from __future__ import annotations

from dataclasses import replace

from sana_wm.engine.sampling_plan import SamplingPlan, check_sampling
from sana_wm.errors import InputError
from sana_wm.models.config import PipelineSettings, StreamSettings
from sana_wm.sampling import euler_sigmas, list_sigmas, needs_uncond
from sana_wm.sampling.schedules import TIMESTEPS_PER_SIGMA

STRATEGY = "first_chunk_plus_one"
"""Every step makes as many frames as any other, the first one besides the given picture."""


VideoPlan = SamplingPlan | StreamSettings
"""How a whole video is sampled: all at once, or chunk after chunk."""


def plan_video(
    settings: PipelineSettings,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    flow_shift: float | None = None,
) -> VideoPlan:
    """How a model samples a video: whole, or chunk after chunk if its settings say that it was trained to.

    Raises:
        InputError: a number that no sampler can work with.
    """
    if settings.stream is None:
        return SamplingPlan.of(settings, num_inference_steps, guidance_scale, flow_shift)
    return plan_stream(settings, num_inference_steps, guidance_scale, flow_shift)


def plan_stream(
    settings: PipelineSettings,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    flow_shift: float | None = None,
) -> StreamSettings:
    """The `stream` settings of a model, or the released streaming model's, apart from what is not None.

    A model that names no steps takes as many as for a whole clip.

    num_inference_steps: so many steps, spaced as the whole-clip sampler spaces them, in place of the model's list.
    flow_shift: moves those steps, so it needs their number.

    Raises:
        InputError: a number that no sampler can work with, or a flow shift without a number of steps.
    """
    check_sampling(num_inference_steps, guidance_scale, flow_shift)
    plan = settings.stream or StreamSettings()
    if num_inference_steps is None and not plan.timesteps:
        num_inference_steps = settings.num_inference_steps
    if num_inference_steps is not None:
        sigmas = euler_sigmas(num_inference_steps, settings.flow_shift if flow_shift is None else flow_shift)
        plan = replace(plan, timesteps=tuple((TIMESTEPS_PER_SIGMA * sigmas.double()).tolist()))
    elif flow_shift is not None:
        raise InputError(
            f"flow_shift is {flow_shift:g}, but the steps of a stream are a fixed list, which nothing shifts; give a "
            "number of steps as well."
        )
    return checked(plan if guidance_scale is None else replace(plan, guidance_scale=guidance_scale))


def checked(plan: StreamSettings) -> StreamSettings:
    """The settings, if a sampler can work with them.

    Raises:
        InputError: it cannot.
    """
    if plan.chunks.strategy != STRATEGY:
        raise InputError(f"the chunks of a stream begin by {STRATEGY!r}, and the model's settings say {plan.chunks}.")
    list_sigmas(plan.timesteps)
    needs_uncond(plan.guidance_scale)
    return plan
