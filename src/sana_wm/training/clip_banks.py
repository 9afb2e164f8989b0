"""The clips of a run: a bank for every length that a recipe keeps, and which of them a step is taken on."""

from __future__ import annotations

import random

import torch

from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.training.bank import LatentBank, LatentBatch
from sana_wm.training.parallel import Peers
from sana_wm.training.recipe import ClipLength, ClipPlan
from sana_wm.training.sources import ClipSource


class ClipBanks(dict[int, LatentBank]):
    """Banks by their length in frames. What they hold at a step, and what it draws, follow from the seed and the step.

    Each peer has clips of its own; which length a step has all draw alike, so that they have the same work.
    """

    def __init__(
        self,
        plan: ClipPlan,
        source: ClipSource,
        codec: NanoAutoencoder,
        text: NanoTextEncoder,
        *,
        seed: int,
        peers: Peers,
    ) -> None:
        self.plan, self.seed, self.peers = plan, seed, peers
        shortest = min(plan.bank_clips)
        super().__init__(
            {
                frames: LatentBank(
                    source,
                    "world" if frames == shortest else "long",
                    codec,
                    text,
                    num_frames=frames,
                    capacity=capacity,
                    group=plan.bank_refresh if frames == shortest else min(8, capacity),
                )
                for frames, capacity in plan.bank_clips.items()
            }
        )

    @property
    def shortest(self) -> LatentBank:
        return self[min(self)]

    def length(self, step: int) -> ClipLength:
        """Of the clips of a step."""
        open_now = [length for length in self.plan.lengths if length.start <= step < length.stop]
        draw = random.Random(self.seed * 7_919 + step)
        return draw.choices(open_now, [length.share for length in open_now])[0]

    def fill(self, bank: LatentBank, step: int) -> None:
        """The bank of short clips is renewed a little all the time; the others are filled once, when first needed."""
        if bank is not self.shortest:
            if bank.written == 0:
                bank.hold(bank.capacity)
            return
        first = bank.capacity - bank.capacity % bank.group
        bank.hold(first + step // self.plan.bank_every * self.plan.bank_refresh)

    def draw(self, step: int, batch: int = 0) -> LatentBatch:
        """Clips for `step`; another number of `batch` gives others."""
        length = self.length(step)
        self.fill(self[length.bank], step)
        seed = self.peers.seed(self.seed * 1_000_003 + step + batch * 15_485_863)
        generator = torch.Generator().manual_seed(seed)
        return self[length.bank].draw(length.batch, length.frames, generator)
