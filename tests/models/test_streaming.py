"""Streaming gives what the chunk-causal pass over the whole video gives, and nothing comes back from the future."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.chunks import chunk_starts
from sana_wm.models.config import TransformerConfig
from sana_wm.models.history import History
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility
from tests.models.small import CONFIG, Inputs, inputs, trained

WINDOWS = [(0, False), (2, False), (2, True), (3, True), (1, True)]


@pytest.fixture(scope="module")
def model() -> SanaWMTransformer:
    return trained().double()


def clean(given: Inputs, noisy: slice) -> Inputs:
    """As during a rollout: finished chunks at timestep 0, the chunk in `noisy` at those of its own."""
    timestep = torch.zeros_like(given.timestep)
    timestep[..., noisy] = given.timestep[..., noisy]
    return given.with_(x=given.x.clone(), timestep=timestep)


def call(
    model: SanaWMTransformer, given: Inputs, frames: slice, sees: Visibility, history: History | None
) -> tuple[Tensor, History | None]:
    """One call on some frames of `given`."""
    x = given.x[:, :, frames]
    cameras = (None, None)
    if given.camera_conditions is not None and given.chunk_plucker is not None:
        cameras = given.camera_conditions[:, frames], given.chunk_plucker[:, :, frames]
    context = model.condition(tuple(x.shape[2:]), given.y, given.mask, *cameras, sees)
    return model.advance(x, given.timestep[..., frames], context, history)


def stream(
    model: SanaWMTransformer, given: Inputs, starts: list[int], window: int = 0, sink: bool = False
) -> tuple[list[Tensor], list[History | None]]:
    """The velocity of every chunk at its own noise level after finished ones, and the history before each chunk."""
    history: History | None = None
    made, before = [], []
    for chunk, (a, b) in enumerate(pairwise([*starts, given.x.shape[2]])):
        sees = Visibility((0,), chunk, a, window, sink)
        before.append(history)
        made.append(call(model, given, slice(a, b), sees, history)[0])
        finished = clean(given, slice(0, 0))
        history = call(model, finished, slice(a, b), replace(sees, saved=1), history)[1]
    before.append(history)
    return made, before


@torch.no_grad()
@pytest.mark.parametrize(("window", "sink"), WINDOWS)
@pytest.mark.parametrize("strategy", ["first_chunk_plus_one", "uniform", "first_frame"])
def test_streaming_is_the_chunk_causal_pass(model: SanaWMTransformer, strategy: str, window: int, sink: bool) -> None:
    given = inputs(2, 10).to(torch.float64)
    starts = chunk_starts(10, 2, strategy)
    made, _ = stream(model, given, starts, window, sink)
    for chunk, (a, b) in enumerate(pairwise([*starts, 10])):
        whole = clean(given, slice(a, b))
        # What comes later is anything at all.
        whole.x[:, :, b:] = torch.randn(whole.x[:, :, b:].shape, generator=torch.Generator().manual_seed(9)).double()
        sees = Visibility(tuple(starts), window=window, sink=sink)
        expected = model(*whole.all(), visibility=sees)[:, :, a:b]
        assert torch.allclose(made[chunk], expected, atol=1e-10), chunk


@torch.no_grad()
def test_streaming_is_the_chunk_causal_pass_in_single_precision() -> None:
    model, given = trained(), inputs(1, 13)
    starts = chunk_starts(13, 3, "first_chunk_plus_one")
    made, _ = stream(model, given, starts, window=2, sink=True)
    for chunk, (a, b) in enumerate(pairwise([*starts, 13])):
        sees = Visibility(tuple(starts), window=2, sink=True)
        expected = model(*clean(given, slice(a, b)).all(), visibility=sees)[:, :, a:b]
        assert (made[chunk] - expected).abs().max() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("config", [replace(CONFIG, camera_paths=()), replace(CONFIG, softmax_every_n=9)])
def test_streaming_works_without_cameras_and_without_softmax_blocks(config: TransformerConfig) -> None:
    model, given = trained(config).double(), inputs(1, 7).to(torch.float64)
    made, _ = stream(model, given, [0, 3, 5])
    whole = model(*clean(given, slice(5, 7)).all(), visibility=Visibility((0, 3, 5)))
    assert torch.allclose(made[-1], whole[:, :, 5:], atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_one_chunk_is_the_whole_model(model: SanaWMTransformer, frames: int) -> None:
    given = inputs(2, frames).to(torch.float64)
    made, _ = stream(model, given, [0])
    assert torch.allclose(made[0], model(*given.all()), atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize(("window", "sink"), WINDOWS)
def test_finishing_a_chunk_and_beginning_the_next_can_be_one_call(
    model: SanaWMTransformer, window: int, sink: bool
) -> None:
    given, starts = inputs(2, 11).to(torch.float64), [0, 4, 6, 9]
    made, before = stream(model, given, starts, window, sink)
    for chunk in range(3):
        a, b, c = [*starts, 11][chunk : chunk + 3]
        sees = Visibility((0, b - a), chunk, a, window, sink, saved=1)
        both, after = call(model, clean(given, slice(b, c)), slice(a, c), sees, before[chunk])
        assert torch.allclose(both[:, :, b - a :], made[chunk + 1], atol=1e-10)
        expected = before[chunk + 1]
        assert after is not None
        assert expected is not None
        assert (after.frames, after.chunks) == (expected.frames, expected.chunks)
        for name, x in expected.tensors().items():
            assert torch.allclose(after.tensors()[name], x, atol=1e-10), name


def test_no_gradient_comes_from_a_later_chunk(model: SanaWMTransformer) -> None:
    given, starts = inputs(1, 9).to(torch.float64), (0, 4, 7)
    for chunk, (a, b) in enumerate(pairwise([*starts, 9])):
        x = given.x.clone().requires_grad_()
        out = model(*given.with_(x=x).all(), visibility=Visibility(starts))
        (grad,) = torch.autograd.grad(out[:, :, a:b].square().sum(), x)
        reached = grad.abs().amax((0, 1, 3, 4)) > 0
        assert reached.tolist() == [frame < b for frame in range(9)], chunk


@torch.no_grad()
def test_under_a_window_the_past_has_one_size_and_without_one_it_grows(model: SanaWMTransformer) -> None:
    given = inputs(1, 19).to(torch.float64)
    starts = chunk_starts(19, 3, "first_chunk_plus_one")
    _, windowed = stream(model, given, starts, window=2, sink=True)
    sizes = [history.nbytes for history in windowed if history is not None]
    assert sizes[1:] == [sizes[1]] * (len(sizes) - 1)
    _, all_kept = stream(model, given, starts)
    sizes = [history.nbytes for history in all_kept if history is not None]
    assert all(after > before for before, after in pairwise(sizes))


@torch.no_grad()
def test_a_past_survives_as_named_tensors(model: SanaWMTransformer) -> None:
    given, starts = inputs(2, 10).to(torch.float64), [0, 4, 7]
    made, before = stream(model, given, starts, window=2, sink=True)
    history = before[2]
    assert history is not None
    again = History.of({k: x.clone() for k, x in history.tensors().items()}, history.frames, history.chunks)
    sees = Visibility((0,), 2, 7, 2, True)
    assert torch.equal(call(model, given, slice(7, 10), sees, again)[0], made[2])
    # And of one sample alone.
    first = history.map(lambda x: x[:1])
    assert torch.allclose(call(model, given.item(0), slice(7, 10), sees, first)[0], made[2][:1], atol=1e-10)


@torch.no_grad()
def test_a_call_does_not_change_the_past_it_reads(model: SanaWMTransformer) -> None:
    given = inputs(1, 8).to(torch.float64)
    _, before = stream(model, given, [0, 4, 6])
    history = before[1]
    assert history is not None
    kept = {name: x.clone() for name, x in history.tensors().items()}
    call(model, given, slice(4, 8), Visibility((0, 2), 1, 4, saved=2), history)
    assert all(torch.equal(x, history.tensors()[name]) for name, x in kept.items())


@torch.no_grad()
def test_what_does_not_fit_together_is_refused(model: SanaWMTransformer) -> None:
    given = inputs(1, 6).to(torch.float64)
    _, before = stream(model, given, [0, 4])
    with pytest.raises(InputError, match="begins at chunk 1, frame 3; the history ends before chunk 1, frame 4"):
        call(model, given, slice(4, 6), Visibility((0,), 1, 3), before[1])
    blind = given.with_(camera_conditions=None, chunk_plucker=None)
    _, without = stream(model, blind, [0, 4])
    with pytest.raises(InputError, match="made without cameras"):
        call(model, given, slice(4, 6), Visibility((0,), 1, 4), without[1])
    open_model = trained(replace(CONFIG, masked_softmax=False)).double()
    with pytest.raises(InputError, match="it cannot stream"):
        call(open_model, given, slice(0, 4), Visibility(saved=1), None)
    with pytest.raises(InputError, match=r"chunk starts are \[0, 4\]; they must stay below the 3"):
        model(*inputs(1, 3).to(torch.float64).all(), visibility=Visibility((0, 4)))
    with pytest.raises(InputError, match="must rise strictly from 0"):
        Visibility((0, 3, 3))
    with pytest.raises(InputError, match="saved is 2; the call has 1 chunks"):
        Visibility(saved=2)
    with pytest.raises(InputError, match="no tensor of a history"):
        History.of({"x": torch.zeros(1)}, 0, 0)
    with pytest.raises(InputError, match="no whole history"):
        History.of({"0.gdn.state": torch.zeros(1), "0.feed_forward_tail": torch.zeros(1)}, 0, 0)
