"""The transformer as the chunk sampler wants it: a model with a past, that knows what is next."""

from __future__ import annotations

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
    ) -> None:
        self.transformer, self.history = transformer, history
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
        _, self.history = self._advance(latents, clean, replace(self._context, visibility=replace(self._sees, saved=1)))

    def _denoise(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        return self._advance(latents, timesteps, self._context)[0]

    def _advance(self, latents: Tensor, timesteps: Tensor, context: BlockContext) -> tuple[Tensor, History | None]:
        return self.transformer.advance(latents, timesteps, context, self.history)
