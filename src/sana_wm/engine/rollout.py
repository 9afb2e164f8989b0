"""The transformer as the chunk sampler wants it: a model with a past, that knows what is next."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.engine.world_state import Finished
from sana_wm.models.chunked import Advance
from sana_wm.models.config import StreamSettings
from sana_wm.models.context import BlockContext
from sana_wm.models.history import History
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility
from sana_wm.sampling import guided


class Rollout:
    """One chunk of a video after the past `history`; :meth:`remember` only keeps it as `finished`.

    What a chunk leaves in the past costs one more call, :func:`remembered`, which nobody who waits for the chunk needs.

    Args:
        features, mask: the caption (B,1,L,C) and (B,L), with guidance the negative prompt first.
        camera_conditions, chunk_plucker: (1,n,20) and (1,6*stride,n,H,W) of the chunk.
        advance: that of the transformer, or a recording of it.
    """

    finished: Finished | None = None

    def __init__(
        self,
        transformer: SanaWMTransformer,
        history: History | None,
        features: Tensor,
        mask: Tensor,
        camera_conditions: Tensor,
        chunk_plucker: Tensor,
        plan: StreamSettings,
        advance: Advance,
    ) -> None:
        self.history, self._advance = history, advance
        self._cameras = camera_conditions, chunk_plucker
        self._context = _context(transformer, history, features, mask, *self._cameras, plan)
        self._guidance_scale = plan.guidance_scale

    def velocity(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        # Kept, the guided function would keep this object, which keeps it: the past would live until Python looks.
        return guided(self._denoise, self._guidance_scale)(latents, timesteps)

    def remember(self, latents: Tensor) -> None:
        self.finished = Finished(latents, *self._cameras)

    def _denoise(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        return self._advance(latents, timesteps, self._context, self.history)[0]


def remembered(
    transformer: SanaWMTransformer,
    history: History | None,
    features: Tensor,
    mask: Tensor,
    finished: Finished,
    plan: StreamSettings,
    advance: Advance,
) -> History:
    """The past with a finished chunk in it: one call on its latents, at timestep 0, whose velocity nobody needs.

    Arguments are those of :class:`Rollout`.
    """
    cameras = finished.camera_conditions, finished.chunk_plucker
    context = _context(transformer, history, features, mask, *cameras, plan, saved=1)
    latents = finished.latents.expand(len(features), -1, -1, -1, -1)
    clean = torch.zeros(len(features), 1, latents.shape[2], device=latents.device)
    _, after = advance(latents, clean, context, history)
    assert after is not None  # because a chunk is saved
    return after


def _context(
    transformer: SanaWMTransformer,
    history: History | None,
    features: Tensor,
    mask: Tensor,
    camera_conditions: Tensor,
    chunk_plucker: Tensor,
    plan: StreamSettings,
    saved: int = 0,
) -> BlockContext:
    """Of the chunk that follows `history`."""
    chunks, frames = (0, 0) if history is None else (history.chunks, history.frames)
    batch = len(features)
    _, _, count, height, width = chunk_plucker.shape
    return transformer.condition(
        (count, height, width),
        features,
        mask,
        camera_conditions.expand(batch, -1, -1),
        chunk_plucker.expand(batch, -1, -1, -1, -1),
        Visibility((0,), chunks, frames, plan.chunks.window, plan.chunks.sink, saved),
    )
