"""A clip made chunk after chunk is what the chunk-causal pass says it is, with and without gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.models.chunked import ChunkedModel
from sana_wm.models.config import ChunkSettings
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility
from tests.models.small import Inputs, inputs, trained

CHUNKS = ChunkSettings(size=2, window=2, sink=True)
FRAMES = 9


@pytest.fixture(scope="module")
def model() -> SanaWMTransformer:
    return trained()


@pytest.fixture(scope="module")
def given() -> Inputs:
    return inputs(2, FRAMES)


def chunked(model: SanaWMTransformer, given: Inputs, autocast: bool | None = None) -> ChunkedModel:
    assert given.camera_conditions is not None
    assert given.chunk_plucker is not None
    size = (given.x.shape[2], given.x.shape[3], given.x.shape[4])
    cameras = given.camera_conditions, given.chunk_plucker
    return ChunkedModel(model, CHUNKS, size, given.y, given.mask, cameras, autocast=autocast)


@torch.no_grad()
def test_every_chunk_sees_the_finished_ones_as_in_one_pass(model: SanaWMTransformer, given: Inputs) -> None:
    streamed = chunked(model, given)
    assert streamed.bounds == [(0, 3), (3, 5), (5, 7), (7, 9)]
    sees = Visibility((0, 3, 5, 7), window=2, sink=True)
    for first, end in streamed.bounds:
        timestep = given.timestep.clone()
        timestep[..., :first] = 0
        whole = model(*given.with_(timestep=timestep).all(), visibility=sees)[:, :, first:end]
        for _ in range(2):  # asking leaves the past as it is
            found = streamed.velocity(given.x[:, :, first:end], timestep[..., first:end])
            assert (found - whole).abs().max() < 1e-5
        streamed.remember(given.x[:, :, first:end])
    assert streamed.chunk == 4


def test_the_past_records_no_gradients_and_the_present_does(model: SanaWMTransformer, given: Inputs) -> None:
    streamed = chunked(model, given)
    streamed.remember(given.x[:, :, :3])
    assert streamed.history is not None
    assert not any(x.requires_grad for x in streamed.history.tensors().values())
    assert streamed.velocity(given.x[:, :, 3:5], given.timestep[..., 3:5]).requires_grad


@pytest.mark.parametrize("autocast", [False, True])
def test_a_call_without_gradients_takes_none_from_the_next(
    model: SanaWMTransformer, given: Inputs, autocast: bool
) -> None:
    """Gradients after such a call are those without it, also where weights are copied to another type."""

    def gradients(before: bool) -> dict[str, Tensor]:
        streamed = chunked(model, given, autocast)
        streamed.remember(given.x[:, :, :3])
        now = given.x[:, :, 3:5], given.timestep[..., 3:5]
        if before:
            with torch.no_grad():
                streamed.velocity(*now)
        loss = streamed.velocity(*now).square().mean()
        names, weights = zip(*model.named_parameters(), strict=True)
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return {name: grad for name, grad in zip(names, found, strict=True) if grad is not None}

    expected, found = gradients(False), gradients(True)
    assert expected.keys() == found.keys() == dict(model.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)
