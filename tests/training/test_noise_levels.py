"""Noise levels of chunks: spec 50, section 3.4. The golden numbers of it are compared in tests/parity.py."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.training import noise_levels
from sana_wm.training.noise_levels import ChunkNoise, chunk_levels, level_sigmas, of_frames, rising_levels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**weights: float) -> ChunkNoise:
    return ChunkNoise(**({"same_t": 0.0, "incremental": 0.0, "last_chunk_anchor": 0.0, "teacher_forcing_clean": 0.0}
                         | weights))  # fmt: skip


@pytest.mark.parametrize(("anchor", "level"), [(0, 1), (1, 2), (2, 3), (1, 0), (0, 3)])
def test_all_sequences_that_rise_through_the_anchor_are_equally_likely(
    anchor: int, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_levels, "NUM_LEVELS", 4)
    possible = [s for s in combinations_with_replacement(range(4), 3) if s[anchor] == level]
    count = 4000
    drawn = rising_levels(torch.full((count,), anchor), torch.full((count,), level), 3, generator())
    found = [tuple(row) for row in drawn.tolist()]
    assert set(found) == set(possible)
    for sequence in possible:
        assert abs(found.count(sequence) / count - 1 / len(possible)) < 0.03


@pytest.mark.parametrize("chunks", [1, 2, 40, 300])
def test_levels_never_fall_and_pass_through_their_anchor(chunks: int) -> None:
    g = generator()
    anchor, level = torch.randint(chunks, (64,), generator=g), torch.randint(1000, (64,), generator=g)
    level[:2] = torch.tensor([0, 999])
    drawn = rising_levels(anchor, level, chunks, g)
    assert torch.equal(drawn.gather(1, anchor[:, None])[:, 0], level)
    assert bool((drawn.diff(dim=1) >= 0).all())
    assert (int(drawn.min()), int(drawn.max())) >= (0, 0)
    assert int(drawn.max()) <= 999


def test_each_way_does_what_it_says() -> None:
    same = chunk_levels(50, 6, only(same_t=1), generator())
    assert torch.equal(same, same[:, :1].expand(-1, 6))
    clean = chunk_levels(200, 6, only(teacher_forcing_clean=1), generator())
    assert not clean[:, 0].any()
    firsts = (clean > 0).long().argmax(1)
    assert set(firsts.tolist()) >= {1, 2, 3, 4, 5}
    assert bool((clean[:, -1] > 0).float().mean() > 0.95)
    anchored = chunk_levels(500, 6, only(last_chunk_anchor=1), generator()).double().mean(0)
    rising = chunk_levels(500, 6, only(incremental=1), generator()).double().mean(0)
    assert abs(anchored[-1] - 490) < 50 < rising[-1] - anchored[-1]


def test_a_clip_of_one_chunk_is_never_all_clean() -> None:
    levels = chunk_levels(100, 1, only(teacher_forcing_clean=1), generator())
    assert bool((levels > 0).float().mean() > 0.95)


def test_the_mixture_is_drawn_by_its_weights() -> None:
    levels = chunk_levels(2000, 8, ChunkNoise(same_t=3, incremental=0, last_chunk_anchor=0), generator())
    same = (levels == levels[:, :1]).all(1).float().mean()
    assert abs(same - 3 / 3.1) < 0.03


def test_levels_follow_from_the_generator() -> None:
    first, again, other = (chunk_levels(4, 5, ChunkNoise(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_frames_have_the_level_of_their_chunk() -> None:
    assert of_frames(torch.tensor([[1, 2, 3]]), [0, 4, 7], 9).tolist() == [[1, 1, 1, 1, 2, 2, 2, 3, 3]]


def test_level_0_is_clean() -> None:
    sigmas = level_sigmas(9.95)
    assert sigmas[0] == 0
    assert bool((sigmas.diff() > 0).all())
    assert sigmas[-1] < 1


@pytest.mark.parametrize("weights", [{}, {"same_t": -1.0, "incremental": 2.0}])
def test_weights_that_choose_nothing_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(InputError, match="the weights of chunk noise"):
        only(**weights)
