"""A clip whose cameras are known, made chunk after chunk: what `sampling.next_chunk` and rollouts ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from sana_wm.geometry.conditions import told_from
from sana_wm.models.config import ChunkSettings, Leash
from sana_wm.models.context import BlockContext
from sana_wm.models.history import History
from sana_wm.models.leash import as_read, brought_along, followed
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility

Advance = Callable[[Tensor, Tensor, BlockContext, History | None], tuple[Tensor, History | None]]
"""As :meth:`~sana_wm.models.transformer.SanaWMTransformer.advance`."""


class ChunkedModel:
    """A :class:`~sana_wm.sampling.ChunkModel` of a transformer, a prompt and the cameras of a whole clip.

    On a GPU float32 weights work under bfloat16 autocast, a context of its own for every call: one around a whole
    rollout would keep the copies of the weights that a call without gradients made, and hand them to one with
    gradients, which then never reach the weights. A recorded call must make its own copies, too.

    Args:
        size: (T, H, W) of the clip's latents.
        y, mask: as of the transformer. cameras: camera_conditions and chunk_plucker of the clip.
        autocast: None is on for float32 weights on a GPU.
        leash: None tells all cameras from the first frame.
        advance: what runs calls without gradients, for example recorded ones; None is the transformer itself.

    Attributes:
        history: finished chunks; chunk: how many they are.
    """

    def __init__(
        self,
        transformer: SanaWMTransformer,
        chunks: ChunkSettings,
        size: tuple[int, int, int],
        y: Tensor,
        mask: Tensor | None,
        cameras: tuple[Tensor, Tensor] | None,
        *,
        leash: Leash | None = None,
        autocast: bool | None = None,
        advance: Advance | None = None,
    ) -> None:
        self.transformer, self.chunks, self.size = transformer, chunks, size
        self.y, self.mask, self.cameras, self.leash = y, mask, cameras, leash
        self.bounds = list(pairwise((*chunks.starts(size[0]), size[0])))
        on_gpu = y.is_cuda and transformer.dtype == torch.float32
        self._autocast = torch.autocast(
            y.device.type, torch.bfloat16, enabled=on_gpu if autocast is None else autocast
        )
        self._advance = transformer.advance if advance is None else advance
        self.history: History | None = None
        self._read: History | None = None  # the same past, as the next chunk reads it
        self.chunk = 0
        self._origin = torch.zeros(len(y), 3, dtype=torch.float64, device=y.device)
        self._context: BlockContext | None = None

    def velocity(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Of the next chunk: latents (B,C,n,H,W) and timesteps (B,1,n) to (B,C,n,H,W). The past stays as it is."""
        context = self._next_context()
        advance = self.transformer.advance if torch.is_grad_enabled() else self._advance
        with self._autocast:
            velocity, _ = advance(latents, timesteps, context, self._read)
        return velocity.float()

    @torch.no_grad()
    def remember(self, latents: Tensor) -> None:
        """The next chunk has come out as `latents`, and from now on is part of the past."""
        timesteps = latents.new_zeros(len(latents), 1, latents.shape[2])
        context = self._next_context()
        context = replace(context, visibility=replace(context.visibility, saved=1))
        with self._autocast:
            _, after = self._advance(latents, timesteps, context, self._read)
        if self.leash is not None and after is not None:
            origin = self._origin
            if self.cameras is not None:
                origin = followed(origin, self.cameras[0][:, self.bounds[self.chunk][1] - 1, 3:12:4], self.leash)
            after = brought_along(after, self.history, (origin - self._origin).float(), self.chunks)
            self._origin = origin
        self.history, self._read = after, as_read(after, self.leash, self.chunks)
        self._context = None
        self.chunk += 1

    def _next_context(self) -> BlockContext:
        """Of the next chunk. All calls of a chunk without gradients share one; one with them needs its own graph."""
        if self._context is not None and not torch.is_grad_enabled():
            return self._context
        first, end = self.bounds[self.chunk]
        sees = Visibility((0,), self.chunk, first, self.chunks.window, self.chunks.sink)
        cameras: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.cameras is not None:
            cameras = self.cameras[0][:, first:end], self.cameras[1][:, :, first:end]
            if self.leash is not None:
                cameras = told_from(self._origin.float(), *cameras)
        with self._autocast:
            context = self.transformer.condition((end - first, *self.size[1:]), self.y, self.mask, *cameras, sees)
        if not torch.is_grad_enabled():
            self._context = context
        return context
