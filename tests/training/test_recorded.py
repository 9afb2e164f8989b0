"""A rollout of recorded calls is the rollout, whichever chunk they were recorded for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.engine.replay import replayed_if_short, tensors_of, with_tensors
from sana_wm.models.chunked import Advance, ChunkedModel
from sana_wm.models.config import ChunkSettings
from sana_wm.models.history import History
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.training.recorded import Record, RecordedAdvance
from tests.models.small import Inputs, inputs, trained

FRAMES = 15
CHUNKS = {
    "window and sink": ChunkSettings(size=2, window=2, sink=True),
    "three and sink": ChunkSettings(size=2, window=3, sink=True),
    "window": ChunkSettings(size=2, window=2, sink=False),
    "all": ChunkSettings(size=2, window=0, sink=False),
}


class Repeated:
    """What a recording does, on a CPU: everything but the numbers in tensors is that of the first call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.first: dict[Any, tuple[Any, ...]] = {}

    def __call__(self, *given: Any) -> Any:
        tensors = list(tensors_of(given))
        first = self.first.setdefault(tuple((x.shape, x.dtype) for x in tensors), given)
        return self.function(*with_tensors(first, iter(tensors)))


def clip(
    model: SanaWMTransformer, given: Inputs, chunks: ChunkSettings, advance: Advance | None
) -> tuple[Tensor, History]:
    assert given.camera_conditions is not None
    assert given.chunk_plucker is not None
    size = (given.x.shape[2], given.x.shape[3], given.x.shape[4])
    cameras = given.camera_conditions, given.chunk_plucker
    streamed, made = ChunkedModel(model, chunks, size, given.y, given.mask, cameras, advance=advance), []
    for first, end in streamed.bounds:
        latents = given.x[:, :, first:end]
        velocity = streamed.velocity(latents, given.timestep[:, :, first:end])
        streamed.remember(latents - velocity)
        made.append(velocity)
    assert streamed.history is not None
    return torch.cat(made, 2), streamed.history


def check(model: SanaWMTransformer, given: Inputs, chunks: ChunkSettings, record: Record) -> RecordedAdvance:
    """Every clip has the bits of one without recordings, also after the weights have changed."""
    advance = RecordedAdvance(model, record)
    for _ in range(4):
        (found, past), (expected, its_past) = clip(model, given, chunks, advance), clip(model, given, chunks, None)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert (past.frames, past.chunks) == (its_past.frames, its_past.chunks)
        torch.testing.assert_close(past.tensors(), its_past.tensors(), rtol=0, atol=0)
        for weight in model.parameters():
            weight.mul_(1.01)
    return advance


@pytest.mark.parametrize("name", CHUNKS)
@torch.no_grad()
def test_calls_of_one_chunk_serve_all_later_ones(name: str) -> None:
    repeated: list[Repeated] = []

    def record(function: Callable[..., Any], device: torch.device, numbers: int) -> Repeated:
        repeated.append(Repeated(function))
        return repeated[-1]

    check(trained(), inputs(2, FRAMES), CHUNKS[name], record)
    window = CHUNKS[name].window
    assert len(repeated) == (2 * (window + 1) if window else 2 * 7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CHUNKS)
@torch.no_grad()
def test_recorded_calls_follow_the_weights_and_give_the_same_bits(name: str) -> None:
    given = Inputs(*(x.cuda() for x in inputs(2, FRAMES).all() if x is not None))
    check(trained().cuda(), given, CHUNKS[name], replayed_if_short)
