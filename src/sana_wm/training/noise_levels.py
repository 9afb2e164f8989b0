"""Noise levels of a chunk-causal model: one a chunk, drawn so that noise seldom falls with time (spec 50, section 3).

A level is an index 0 ... 999 into a table of sigmas; index 0 is clean. Draws come from a generator on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.training.objective import shift_sigma

NUM_LEVELS = 1000


def level_sigmas(shift: float) -> Tensor:
    """(1000,) float64: sigma of every level, from exactly 0 on (section 3.1)."""
    return shift_sigma(torch.arange(NUM_LEVELS, dtype=torch.float64) / NUM_LEVELS, shift)


def draw_levels(count: int, generator: torch.Generator) -> Tensor:
    """(count,) int64 logit-normal levels (section 3.2)."""
    return (NUM_LEVELS * torch.sigmoid(torch.randn(count, generator=generator))).long()


@dataclass(frozen=True)
class ChunkNoise:
    """Weights of the ways in which the chunks of a sample get their levels (section 3.4); they need not sum to 1.

    Attributes:
        same_t: all chunks share one level.
        incremental: one chunk, any of them, has a drawn level; the others rise with time through it.
        last_chunk_anchor: the same, and that one is the last.
        teacher_forcing_clean: like the one before, and then one or more chunks at the beginning are clean.
    """

    same_t: float = 0.1
    incremental: float = 0.4
    last_chunk_anchor: float = 0.4
    teacher_forcing_clean: float = 0.1

    def __post_init__(self) -> None:
        weights = asdict(self)
        if min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise InputError(f"the weights of chunk noise are {weights}; none may be below 0, and one must be above it")


def log_ways(levels: int, chunks: int) -> Tensor:
    """(levels, chunks) float64: log C(t + f, f), in how many ways f levels can rise to at most t."""
    t = torch.arange(levels, dtype=torch.float64)[:, None]
    f = torch.arange(chunks, dtype=torch.float64)
    return torch.lgamma(t + f + 1) - torch.lgamma(f + 1) - torch.lgamma(t + 1)


def rising_levels(anchor: Tensor, level: Tensor, chunks: int, generator: torch.Generator) -> Tensor:
    """(B, chunks) int64: uniform among all sequences that never fall and have `level` (B,) at chunk `anchor` (B,)."""
    ways = log_ways(NUM_LEVELS, chunks + 1)
    found = level[:, None].repeat(1, chunks)

    def draw(limit: Tensor, others: int) -> Tensor:
        """t <= limit with weight C(t + others, others), whose sum up to t is C(t + others + 1, others + 1)."""
        total = ways[:, others + 1].contiguous()
        share = torch.rand(len(limit), generator=generator, dtype=torch.float64).clamp_min(1e-300)
        return torch.minimum(torch.searchsorted(total, total[limit] + share.log()), limit)

    for f in range(chunks - 2, -1, -1):
        found[:, f] = torch.where(f < anchor, draw(found[:, f + 1], f), found[:, f])
    for f in range(1, chunks):  # the mirror image: what is left above shrinks
        above = NUM_LEVELS - 1 - found[:, f - 1]
        found[:, f] = torch.where(f > anchor, NUM_LEVELS - 1 - draw(above, chunks - 1 - f), found[:, f])
    return found


def chunk_levels(batch: int, chunks: int, mixture: ChunkNoise, generator: torch.Generator) -> Tensor:
    """(B, chunks) int64: the level of every chunk, each sample in a way of its own."""
    weights = torch.tensor(list(asdict(mixture).values()), dtype=torch.float64)
    way = torch.multinomial(weights.expand(batch, -1), 1, generator=generator)[:, 0]
    level = draw_levels(batch, generator)
    anchor = torch.randint(chunks, (batch,), generator=generator)
    anchor = torch.where(way == 1, anchor, chunks - 1)
    rising = rising_levels(anchor, level, chunks, generator)
    levels = torch.where((way == 0)[:, None], level[:, None], rising)
    clean = torch.randint(1, max(chunks, 2), (batch,), generator=generator) if chunks > 1 else torch.zeros(batch)
    cleaned = (way == 3)[:, None] & (torch.arange(chunks) < clean[:, None])
    return levels.masked_fill(cleaned, 0)


def of_frames(of_chunks: Tensor, starts: Sequence[int], frames: int) -> Tensor:
    """(B, chunks) -> (B, frames): every frame has what its chunk has."""
    lengths = torch.tensor([b - a for a, b in pairwise((*starts, frames))])
    return of_chunks.repeat_interleave(lengths.to(of_chunks.device), 1)
