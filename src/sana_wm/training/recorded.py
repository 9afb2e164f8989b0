"""Calls of a student that remembers, recorded on a GPU: most of a rollout is made of them, and launching one by one
takes longer than what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sana_wm.engine.replay import replayed_if_short
from sana_wm.models.context import BlockContext
from sana_wm.models.history import History
from sana_wm.models.transformer import SanaWMTransformer

Record = Callable[[Callable[..., Any], torch.device, int], Callable[..., Any]]
"""As :func:`~sana_wm.engine.replay.replayed_if_short`."""


class RecordedAdvance:
    """:meth:`~sana_wm.models.transformer.SanaWMTransformer.advance` without gradients, with the weights of the moment.

    What is recorded passes no module. Once the past is as long as it gets, chunks differ in nothing but their numbers,
    and one recording serves all of them.
    """

    def __init__(self, transformer: SanaWMTransformer, record: Record = replayed_if_short) -> None:
        self._transformer, self._record = transformer, record
        self._recorded: dict[tuple[int, int], Callable[..., Any]] = {}

    def __call__(
        self, latents: Tensor, timesteps: Tensor, context: BlockContext, history: History | None
    ) -> tuple[Tensor, History | None]:
        sees = context.visibility
        at = min(sees.first_chunk, sees.window) if sees.window > 0 else sees.first_chunk, sees.saved
        if at not in self._recorded:
            numbers = len(latents) * latents.shape[2:].numel() * self._transformer.config.width
            self._recorded[at] = self._record(self._transformer.advance, latents.device, numbers)
        velocity, after = self._recorded[at](latents, timesteps, context, history)
        if after is not None:
            frames, chunks = sees.first_frame + sees.saved_frames(latents.shape[2]), sees.first_chunk + sees.saved
            after = after.at(frames, chunks, sink=sees.sink)
        return velocity, after
