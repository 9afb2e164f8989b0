"""Calls of a model that remembers, recorded on a GPU: chunks are made of them, and launching one by one takes longer
than what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sana_wm.engine.replay import replayed_if_short
from sana_wm.models.context import BlockContext
from sana_wm.models.history import History
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility

Record = Callable[[Callable[..., Any], torch.device, int], Callable[..., Any]]
"""As :func:`~sana_wm.engine.replay.replayed_if_short`."""


class RecordedAdvance:
    """:meth:`~sana_wm.models.transformer.SanaWMTransformer.advance` without gradients, with the weights of the moment.

    What is recorded passes no module. Once the past is as long as it gets, chunks differ in nothing but their numbers,
    and one recording serves all of them: each for calls that save their chunk and for those that do not.

    Args:
        early: also record the chunks before, each for itself. That pays where many clips begin, as in training; in a
            world each comes once.
    """

    def __init__(
        self, transformer: SanaWMTransformer, record: Record = replayed_if_short, *, early: bool = True
    ) -> None:
        self._transformer, self._record, self._early = transformer, record, early
        self._recorded: dict[tuple[int, int], Callable[..., Any]] = {}

    def __call__(
        self, latents: Tensor, timesteps: Tensor, context: BlockContext, history: History | None
    ) -> tuple[Tensor, History | None]:
        sees = context.visibility
        if not (self._early or _steady(sees)):
            return self._transformer.advance(latents, timesteps, context, history)
        at = min(sees.first_chunk, sees.window) if sees.window > 0 else sees.first_chunk, sees.saved
        if at not in self._recorded:
            numbers = len(latents) * latents.shape[2:].numel() * self._transformer.config.width
            advance = self._record(self._transformer.advance, latents.device, numbers)
            self._recorded.setdefault(at, advance)  # another thread may have been here meanwhile
        velocity, after = self._recorded[at](latents, timesteps, context, history)
        if after is not None:
            frames, chunks = sees.first_frame + sees.saved_frames(latents.shape[2]), sees.first_chunk + sees.saved
            after = after.at(frames, chunks, sink=sees.sink)
        return velocity, after


def _steady(sees: Visibility) -> bool:
    """Whether what softmax blocks read has its final size.

    Without a sink that is a chunk later: the first chunk, which can be longer, must have left the window.
    """
    return sees.window > 0 and sees.first_chunk >= sees.window + (not sees.sink)
