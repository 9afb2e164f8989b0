"""The transformer as the chunk sampler wants it: a model with a past, that knows what is next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sana_wm.models.config import StreamSettings
from sana_wm.models.context import BlockContext
from sana_wm.models.history import History
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility
from sana_wm.sampling import guided


class Rollout:
    """One chunk of a video; `history` is the past before it, and after :meth:`remember` that with it.

    Args:
        features, mask: the caption (B,1,L,C) and (B,L), with guidance the negative prompt first.
        camera_conditions, chunk_plucker: (1,n,20) and (1,6*stride,n,H,W) of the chunk.
        velocity: of latents at timesteps in a context after a history: the transformer's, or a recording of it.
    """

    def __init__(
        self,
        transformer: SanaWMTransformer,
        history: History | None,
        features: Tensor,
        mask: Tensor,
        camera_conditions: Tensor,
        chunk_plucker: Tensor,
        plan: StreamSettings,
        velocity: Callable[[Tensor, Tensor, BlockContext, History | None], Tensor],
    ) -> None:
        self.transformer, self.history, self._step = transformer, history, velocity
        chunks, frames = (0, 0) if history is None else (history.chunks, history.frames)
        self._sees = Visibility((0,), chunks, frames, plan.chunks.window, plan.chunks.sink)
        self._batch = len(features)
        _, _, count, height, width = chunk_plucker.shape
        self._context = transformer.condition(
            (count, height, width),
            features,
            mask,
            camera_conditions.expand(self._batch, -1, -1),
            chunk_plucker.expand(self._batch, -1, -1, -1, -1),
            self._sees,
        )
        self._velocity = guided(self._denoise, plan.guidance_scale)

    def velocity(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        return self._velocity(latents, timesteps)

    def remember(self, latents: Tensor) -> None:
        latents = latents.expand(self._batch, -1, -1, -1, -1)
        clean = torch.zeros(self._batch, 1, latents.shape[2], device=latents.device)
        context = replace(self._context, visibility=replace(self._sees, saved=1))
        _, self.history = self.transformer.advance(latents, clean, context, self.history)

    def _denoise(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        return self._step(latents, timesteps, self._context, self.history)
