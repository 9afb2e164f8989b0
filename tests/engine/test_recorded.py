"""A rollout and a world of recorded calls are the same as without, whichever chunk the calls were recorded for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.engine.chunk_stages import ChunkStages
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.recorded import Record, RecordedAdvance
from sana_wm.engine.replay import replayed_if_short, tensors_of, with_tensors
from sana_wm.engine.world import World
from sana_wm.engine.world_state import WorldState
from sana_wm.models.chunked import Advance, ChunkedModel
from sana_wm.models.config import ChunkSettings, Leash, StreamSettings
from sana_wm.models.history import History
from sana_wm.models.transformer import SanaWMTransformer
from tests.engine.tiny import picture, tiny_components
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
        self.calls = 0
        self.first: dict[Any, tuple[Any, ...]] = {}

    def __call__(self, *given: Any) -> Any:
        self.calls += 1
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


MOVES = ["w", "dw", "none", "a", "s", "i", "w", "d"]


def walked(pipe: SanaWMPipeline, plan: StreamSettings, record: Record = replayed_if_short) -> list[WorldState]:
    """The states of a world after every chunk, all of them held; every second chunk is remembered before the next."""
    size = pipe.settings.height, pipe.settings.width
    world = World.begin(pipe, picture(), "a street", fov=70.0, seed=3, plan=plan)
    world = World(pipe, plan, world.state, ChunkStages(pipe.transformer, pipe.codec, size, plan, record))
    states = []
    for number, keys in enumerate(MOVES):
        world.step(keys)
        if number % 2:
            world.remember()
        states.append(world.state)
    return states


def assert_same(found: list[WorldState], expected: list[WorldState]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.numbers() == other.numbers()
        assert list(one.tensors()) == list(other.tensors())
        torch.testing.assert_close(one.tensors(), other.tensors(), rtol=0, atol=0)
        for x in () if one.history is None else one.history.tensors().values():
            assert x.is_contiguous()
            assert x.untyped_storage().nbytes() == x.nbytes


def few_steps(name: str, guidance: float, leashed: bool) -> StreamSettings:
    chunks = CHUNKS[name]
    leash = Leash(distance=0.5, frames=1 + chunks.size * chunks.window) if leashed else None
    return StreamSettings(chunks, (1000.0, 500.0, 0.0), guidance_scale=guidance, leash=leash)


@pytest.mark.parametrize(("guidance", "leashed"), [(1.0, False), (3.0, False), (1.0, True)])
@pytest.mark.parametrize("name", CHUNKS)
def test_a_world_is_the_same_if_its_calls_are_those_of_one_chunk(name: str, guidance: float, leashed: bool) -> None:
    parts = tiny_components()
    pipe = SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings)
    plan = few_steps(name, guidance, leashed)
    repeated: list[Repeated] = []

    def record(function: Callable[..., Any], device: torch.device, numbers: int) -> Repeated:
        assert numbers == (2 if guidance > 1 else 1) * 2 * 2 * 3 * parts.transformer.config.width
        repeated.append(Repeated(function))
        return repeated[-1]

    assert_same(walked(pipe, plan, record), walked(pipe, plan))
    # One of the steps and one of what remembers them, of one shape, from the first chunk on that repeats itself.
    recorded = len(MOVES) - plan.chunks.window - (not plan.chunks.sink) if plan.chunks.window else 0
    assert sorted(one.calls for one in repeated) == ([recorded, 2 * recorded] if recorded else [])
    assert all(len(one.first) == 1 for one in repeated)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("guidance", "leashed"), [(1.0, False), (3.0, False), (3.0, True)])
@pytest.mark.parametrize("name", CHUNKS)
def test_a_world_of_recorded_calls_holds_the_same_bits(
    name: str, guidance: float, leashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tiny_components()
    for part in (parts.transformer, parts.codec, parts.text_encoder):
        part.cuda()
    pipe = SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings)
    plan = few_steps(name, guidance, leashed)
    found = walked(pipe, plan)
    monkeypatch.setattr("sana_wm.engine.replay.LAUNCH_BOUND", 0)
    assert_same(found, walked(pipe, plan))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CHUNKS)
@torch.no_grad()
def test_recorded_calls_follow_the_weights_and_give_the_same_bits(name: str) -> None:
    given = Inputs(*(x.cuda() for x in inputs(2, FRAMES).all() if x is not None))
    check(trained().cuda(), given, CHUNKS[name], replayed_if_short)
