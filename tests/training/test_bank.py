"""The bank of encoded clips: what it holds follows from how far the run is, not from how it got there."""

from __future__ import annotations

import pytest
import torch

from sana_wm.engine.pixels import to_video
from sana_wm.geometry.poses import relative_to_first
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.training.bank import LatentBank, LatentBatch
from tests.training import tiny

FRAMES = 9


def bank(capacity: int, group: int) -> LatentBank:
    recipe = tiny.recipe()
    text = NanoTextEncoder(recipe.world.text)
    source = tiny.source(recipe)
    return LatentBank(source, "world", tiny.codec(recipe), text, num_frames=FRAMES, capacity=capacity, group=group)


def drawn(bank: LatentBank, batch: int = 12) -> LatentBatch:
    return bank.draw(batch, FRAMES, torch.Generator().manual_seed(0))


def assert_equal(a: LatentBatch, b: LatentBatch) -> None:
    for name in ("latents", "c2w", "intrinsics", "captions"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize(
    ("capacity", "group", "totals"),
    [
        (4, 2, [4, 6, 8, 10]),
        (4, 2, [4, 4, 12]),  # long enough away from the bank to miss clips altogether
        (5, 2, [4, 6, 8, 10, 12]),  # clips that lie in a slot change when the ring does not close at a group
        (3, 3, [3, 6]),
    ],
)
def test_a_resumed_bank_holds_what_an_uninterrupted_one_does(capacity: int, group: int, totals: list[int]) -> None:
    lasting = bank(capacity, group)
    for total in totals:
        lasting.hold(total)
        resumed = bank(capacity, group)
        resumed.hold(total)
        assert resumed.written == lasting.written == total
        assert_equal(drawn(resumed), drawn(lasting))


def test_the_bank_holds_the_latest_clips_encoded() -> None:
    held = bank(4, 2)
    held.hold(6)
    batch = next(held.source.batches("world", 2, 2, FRAMES))  # clips 4 and 5 lie in slots 0 and 1
    ring = held._ring
    assert ring is not None
    for i in range(2):
        torch.testing.assert_close(ring.latents[i], held.codec.encode(to_video(batch.frames[i : i + 1]))[0])
    assert torch.equal(ring.c2w[:2], relative_to_first(batch.c2w))
    assert torch.equal(ring.intrinsics[:2], batch.intrinsics)
    assert torch.equal(ring.captions[:2], held.text.tokenize(batch.captions))


def test_a_shorter_clip_is_the_start_of_a_longer_one() -> None:
    held = bank(2, 2)
    held.hold(2)
    whole = drawn(held, 3)
    short = held.draw(3, 1, torch.Generator().manual_seed(0))
    assert short.latents.shape[2] == short.c2w.shape[1] == short.intrinsics.shape[1] == 1
    assert torch.equal(short.latents, whole.latents[:, :, :1])
    assert torch.equal(short.c2w, whole.c2w[:, :1])
    assert torch.equal(short.captions, whole.captions)


def test_every_clip_of_the_bank_is_drawn_and_draws_are_copies() -> None:
    held = bank(3, 3)
    held.hold(3)
    batch = drawn(held, 30)
    assert len({tuple(latent.flatten().tolist()) for latent in batch.latents}) == 3
    batch.latents.zero_()
    batch.captions.zero_()
    assert drawn(held).latents.any()
    assert drawn(held).captions.any()
