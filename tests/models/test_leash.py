"""The past that is brought along behind a camera is read as if the camera had stayed where the world began."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.models.config import ChunkSettings, Leash
from sana_wm.models.history import GdnMemory, History, SoftmaxMemory
from sana_wm.models.leash import as_read, brought_along, followed
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility
from sana_wm.ops.rotary import rotary_table, rotate_pairs
from tests.models.small import CONFIG, Inputs, inputs, trained

STARTS = (0, 2, 4, 6, 8)
WINDOW = ChunkSettings(size=2, strategy="uniform", window=2, sink=False)
SINK = replace(WINDOW, sink=True)
LOOSE = Leash(distance=1e9, frames=10**6)
FAR = torch.tensor([40.0, -3.0, 25.0])


def stream(
    model: SanaWMTransformer, given: Inputs, chunks: ChunkSettings, offset: Tensor | None = None, leash: Leash = LOOSE
) -> tuple[list[Tensor], list[History]]:
    """Velocities of chunks that come one after the other, and the past after each.

    offset: (3,) by so much the origin of the world moves after every chunk.
    """
    origin = torch.zeros(3)
    history: History | None = None
    made, pasts = [], []
    for chunk, (a, b) in enumerate(pairwise(STARTS)):
        assert given.camera_conditions is not None
        rows = given.camera_conditions[:, a:b].clone()
        rows[..., 3:12:4] -= origin
        maps = None if given.chunk_plucker is None else given.chunk_plucker[:, :, a:b]
        sees = Visibility((0,), chunk, a, chunks.window, chunks.sink)
        size = (b - a, *given.x.shape[3:])
        latents, timesteps = given.x[:, :, a:b], given.timestep[..., a:b]
        context = model.condition(size, given.y, given.mask, rows, maps, sees)
        read = as_read(history, leash, chunks)
        made.append(model.advance(latents, timesteps, context, read)[0])
        context = replace(context, visibility=replace(sees, saved=1))
        _, after = model.advance(latents, torch.zeros_like(timesteps), context, read)
        assert after is not None
        before, history = history, after
        if offset is not None:
            history = brought_along(after, before, offset.expand(len(given.x), 3), chunks)
            origin = origin + offset
        pasts.append(history)
    return made, pasts


def attention(past: History) -> SoftmaxMemory:
    """Of the softmax block."""
    found = past.blocks[1].attention
    assert isinstance(found, SoftmaxMemory)
    return found


@pytest.fixture(scope="module")
def softmax_model() -> SanaWMTransformer:
    return trained(replace(CONFIG, depth=2, softmax_every_n=1, camera_paths=("ucpe",))).double()


@torch.no_grad()
@pytest.mark.parametrize("chunks", [WINDOW, replace(WINDOW, window=0)])
def test_softmax_blocks_read_a_past_that_was_moved_as_before(
    softmax_model: SanaWMTransformer, chunks: ChunkSettings
) -> None:
    given = inputs(2, 8).to(torch.float64).with_(chunk_plucker=None)
    plain, _ = stream(softmax_model, given, chunks)
    moved, _ = stream(softmax_model, given, chunks, torch.tensor([0.4, -0.3, 0.7]))
    for one, other in zip(plain, moved, strict=True):
        assert torch.allclose(one, other, atol=1e-5)  # cameras are float32
    # A sink that comes along is not where it was.
    alone = replace(chunks, window=1, sink=True)
    plain, _ = stream(softmax_model, given, alone)
    moved, _ = stream(softmax_model, given, alone, torch.tensor([0.4, -0.3, 0.7]))
    assert not torch.allclose(plain[-1], moved[-1])


@torch.no_grad()
def test_a_state_that_was_moved_is_read_as_before() -> None:
    model = trained()
    given = inputs(2, 8)
    _, plain = stream(model, given, WINDOW)
    moved = brought_along(plain[-1], plain[-2], FAR[None], WINDOW)
    old, new = (past.blocks[0].attention for past in (plain[-1], moved))
    assert isinstance(old, GdnMemory)
    assert isinstance(new, GdnMemory)
    assert old.camera is not None
    assert new.camera is not None
    half = old.camera.shape[-1] // 2
    move = torch.eye(4, dtype=torch.float64)
    move[:3, 3] = -FAR.double()
    matrix = torch.block_diag(*[move] * (half // 4), torch.eye(half, dtype=torch.float64))
    expected = matrix @ old.camera.double() @ matrix.T
    assert torch.allclose(new.camera.double(), expected, rtol=1e-4, atol=1e-4)
    # Queries from the new origin get what queries from the old one got, in the new origin's terms.
    query = torch.randn(old.camera.shape[-1], dtype=torch.float64)
    there = torch.linalg.inv(matrix).T @ query
    assert torch.allclose(there @ expected, (query @ old.camera.double()) @ matrix.T)
    assert torch.equal(old.state, new.state)
    assert torch.equal(old.key_tail, new.key_tail)


@torch.no_grad()
def test_a_sink_comes_along_and_the_window_does_not() -> None:
    _, pasts = stream(trained(), inputs(2, 8), SINK)
    old, new = (attention(p) for p in (pasts[-1], brought_along(pasts[-1], pasts[-2], FAR[None], SINK)))
    assert list(old.chunks) == list(new.chunks) == [0, 3]
    for name, x in vars(new.chunks[0]).items():
        assert x is getattr(attention(pasts[-2]).chunks[0], name)
    assert torch.equal(new.chunks[3].keys, old.chunks[3].keys)
    assert not torch.allclose(new.chunks[3].camera_keys, old.chunks[3].camera_keys)
    # While the first chunk is in the window anyway, it is moved as everything else.
    early = attention(brought_along(pasts[0], None, FAR[None], SINK)).chunks[0]
    assert not torch.allclose(early.camera_keys, attention(pasts[0]).chunks[0].camera_keys)


@torch.no_grad()
def test_a_sink_is_read_as_no_older_than_the_leash_and_kept_as_it_was() -> None:
    leash = Leash(distance=1.0, frames=5)
    _, pasts = stream(trained(), inputs(2, 8), SINK, torch.zeros(3), leash)
    first, kept = attention(pasts[0]).chunks[0], attention(pasts[-1]).chunks[0]
    assert all(torch.equal(x, getattr(kept, name)) for name, x in vars(first).items())
    assert as_read(pasts[1], leash, SINK) is pasts[1]  # 4 frames
    found = as_read(pasts[-1], leash, SINK)
    assert found is not None
    read = attention(found).chunks[0]
    # 8 frames are made, and the first chunk may be 5 ago: its keys are those that it would have 3 frames later.
    cos, sin = rotary_table(torch.tensor([3]), 1, 1, kept.keys.shape[-1])
    assert torch.allclose(read.keys, rotate_pairs(kept.keys, cos, sin))
    assert torch.equal(read.values, kept.values)
    half = kept.keys.shape[-1] // 2
    for name in ("camera_keys", "camera_values"):
        turned, was = getattr(read, name), getattr(kept, name)
        cos, sin = rotary_table(torch.tensor([3]), 1, 1, 2 * half, camera=True)
        assert torch.equal(turned[..., :half], was[..., :half])
        assert torch.allclose(turned[..., half:], rotate_pairs(was[..., half:], cos, sin))
    assert as_read(pasts[-1], leash, replace(SINK, window=0)) is pasts[-1]
    assert as_read(None, leash, SINK) is None


def test_a_leash_that_is_loose_changes_nothing() -> None:
    with torch.no_grad():
        _, pasts = stream(trained(), inputs(2, 8), SINK)
    moved = brought_along(pasts[-1], pasts[-2], torch.zeros(1, 3), SINK)
    for name, x in pasts[-1].tensors().items():
        assert torch.equal(moved.tensors()[name], x)


def test_the_origin_follows_only_when_the_leash_is_tight() -> None:
    leash = Leash(distance=4.0, frames=10)
    origin = torch.zeros(3, 3, dtype=torch.float64)
    cameras = torch.tensor([[0.0, 0.0, 4.0], [0.0, 6.0, 8.0], [0.0, 0.0, 0.0]])
    far = followed(origin, cameras, leash)
    assert torch.equal(far[[0, 2]], origin[[0, 2]])
    assert torch.allclose(far[1], torch.tensor([0.0, 3.6, 4.8], dtype=torch.float64))
    assert torch.equal(followed(far, far.float(), leash), far)


@torch.no_grad()
def test_a_first_chunk_in_the_window_is_as_old_as_it_is() -> None:
    chunks = replace(SINK, window=3)
    _, pasts = stream(trained(), inputs(2, 8), chunks)
    assert as_read(pasts[2], Leash(distance=1.0, frames=1), chunks) is pasts[2]
    assert as_read(pasts[3], Leash(distance=1.0, frames=1), chunks) is not pasts[3]


@pytest.mark.parametrize(("distance", "frames"), [(0.0, 10), (-1.0, 10), (float("nan"), 10), (4.0, 0)])
def test_a_leash_of_no_length_is_refused(distance: float, frames: int) -> None:
    with pytest.raises(InputError, match=r"leash\.(distance|frames) is"):
        Leash(distance, frames)
