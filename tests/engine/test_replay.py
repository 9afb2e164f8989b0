"""A recorded step gives the bits of the step itself."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.replay import (
    LAUNCH_BOUND,
    Replayed,
    handed_out,
    no_collection,
    replayed_if_short,
    tensors_of,
    with_tensors,
)
from sana_wm.models.history import BlockState, ChunkKeys, GdnMemory, History, SoftmaxMemory
from tests.engine.tiny import picture, tiny_components


def _step(latents: Tensor, timesteps: Tensor) -> Tensor:
    return latents * timesteps


def test_only_short_steps_on_a_gpu_are_recorded() -> None:
    assert replayed_if_short(_step, torch.device("cpu"), 1) is _step
    assert replayed_if_short(_step, torch.device("cuda"), LAUNCH_BOUND + 1) is _step
    assert isinstance(replayed_if_short(_step, torch.device("cuda"), LAUNCH_BOUND), Replayed)


def _history(value: float) -> History:
    def x() -> Tensor:
        return torch.full((2,), value)

    gdn = BlockState(GdnMemory(x(), x(), x()), x())
    softmax = BlockState(SoftmaxMemory({0: ChunkKeys(x(), x()), 4: ChunkKeys(x(), x(), x(), x())}), x())
    return History((gdn, softmax), 13, 5)


def test_what_a_step_is_given_is_taken_apart_and_put_together_again() -> None:
    given = (torch.zeros(2), _history(0.0), None, 7)
    tensors = list(tensors_of(given))
    assert len(tensors) == 12
    latents, history, nothing, number = with_tensors(given, iter([x + 1 for x in tensors]))
    assert torch.equal(latents, torch.ones(2))
    assert (nothing, number, history.frames, history.chunks) == (None, 7, 13, 5)
    assert history.tensors().keys() == _history(1.0).tensors().keys()
    assert all(torch.equal(x, torch.ones(2)) for x in history.tensors().values())
    assert all(torch.equal(x, torch.zeros(2)) for x in tensors)


def test_what_is_written_comes_out_as_a_copy_and_what_is_passed_on_as_it_was_given() -> None:
    kept, given, written = torch.zeros(2), torch.ones(2), torch.full((2,), 3.0)
    result = {"past": (kept, kept[:1]), "new": written}
    out = handed_out(result, [kept], [given])
    written.zero_()  # the next replay
    kept.fill_(7)
    assert out["past"][0] is given
    assert out["past"][1].tolist() == [0]
    assert out["new"].tolist() == [3, 3]


class _Garbage:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.own = self


def test_no_garbage_is_collected_while_something_is_recorded() -> None:
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with no_collection():
            garbage = weakref.ref(_Garbage())
            kept = [[[]] for _ in range(100)]
            assert garbage() is not None
        assert gc.isenabled()
        kept += [[[]] for _ in range(100)]
        assert garbage() is None
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_older_recordings_that_are_garbage_do_not_end_one_that_is_made() -> None:
    def leaves_garbage(x: Tensor) -> Tensor:
        for _ in range(100):
            x = x + len([[[]] for _ in range(10)])
        return x

    for _ in range(3):
        step = Replayed(leaves_garbage, after=0)
        cycle: list[object] = [step]
        cycle.append(cycle)
        step(torch.ones(3, device="cuda"))
        del step, cycle
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        found = Replayed(leaves_garbage)
        for _ in range(3):
            assert found(torch.ones(3, device="cuda")).tolist() == [1001.0] * 3
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_shapes_are_recorded_one_by_one_after_so_many_calls() -> None:
    calls = 0

    def function(x: Tensor, pair: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        return x * pair[0] + pair[1]

    step = Replayed(function, after=2)
    for size in (3, 4):
        for number in range(5):
            x, a, b = (torch.full((size,), float(number + i), device="cuda") for i in range(3))
            torch.testing.assert_close(step(x, (a, b)), x * a + b, rtol=0, atol=0)
    assert calls == 2 * (2 + 1)  # as they are, and once to record


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_call_has_its_own_result() -> None:
    step = Replayed(_step)
    given = [(torch.full((3,), float(n), device="cuda"), torch.tensor(n + 1.0, device="cuda")) for n in range(4)]
    results = [step(*pair) for pair in given]
    for (latents, timesteps), result in zip(given, results, strict=True):
        torch.testing.assert_close(result, latents * timesteps, rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_video_of_recorded_steps_is_the_same_to_the_bit(guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tiny_components()
    for part in (parts.transformer, parts.codec, parts.text_encoder):
        part.cuda()
    pipe = SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings)

    def video() -> bytes:
        return pipe(picture(), "a hall", "w-16", num_inference_steps=4, guidance_scale=guidance).frames.tobytes()

    recorded = video()
    monkeypatch.setattr("sana_wm.engine.replay.LAUNCH_BOUND", 0)
    assert recorded == video()
