"""How a model streams for people who wait for it."""

from __future__ import annotations

from dataclasses import replace

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.stream_plan import plan_stream
from sana_wm.models.config import StreamSettings

FEW_STEPS, SHORT_CHUNK = 4, 1
"""Denoising steps and latent frames of a chunk for a model that names no steps for streaming. As many steps as the
released streaming model's; a chunk as short as can be, because keys count from the next chunk on."""


def live_plan(pipe: SanaWMPipeline, step: int | None, chunk: int | None) -> StreamSettings:
    """The model's own plan for streams; few steps and short chunks where it names none."""
    if pipe.settings.stream is None or not pipe.settings.stream.timesteps:
        step, chunk = step or FEW_STEPS, chunk or SHORT_CHUNK
    plan = plan_stream(pipe.settings, step)
    return plan if chunk is None else replace(plan, chunks=replace(plan.chunks, size=chunk))
