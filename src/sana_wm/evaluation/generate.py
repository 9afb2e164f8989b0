"""Many clips at once through a world model, from first frame and true path, the way that the model works."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from sana_wm.checkpoints.components import Components
from sana_wm.engine.sampling_plan import SamplingPlan
from sana_wm.engine.stream_plan import VideoPlan
from sana_wm.evaluation.batched import generate_whole
from sana_wm.evaluation.chunked import generate_in_chunks
from sana_wm.evaluation.held_out import HeldOut


def steps_of(plan: VideoPlan) -> int:
    """Sampling steps that every frame goes through."""
    return plan.num_inference_steps if isinstance(plan, SamplingPlan) else len(plan.timesteps) - 1


def generate(
    components: Components,
    clips: HeldOut,
    prompts: Sequence[str],
    plan: VideoPlan,
    *,
    batch: int,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> Tensor:
    """Videos (B,F,3,H,W) uint8; arguments and errors as of `generate_whole` and `generate_in_chunks`.

    Args:
        plan: that of :func:`~sana_wm.engine.stream_plan.plan_video` is the model's own.
        report: gets the sampling steps done so far, counted a clip.
    """
    if isinstance(plan, SamplingPlan):
        return generate_whole(components, clips, prompts, plan, batch=batch, seed=seed, report=report)
    return generate_in_chunks(components, clips, prompts, plan, batch=batch, seed=seed, report=report)
