"""Worlds that a student goes on with from step to step, so that it learns from what it makes of a past of minutes.

A clip of ten minutes would have to be made anew for every step. These are kept: a step only adds a few chunks to what
earlier ones made, with whatever weights the student had then. Checkpoints leave them out, so a run that is taken up
again begins new ones.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.geometry.poses import relative_to_first
from sana_wm.models.history import History
from sana_wm.training.bank import LatentBatch
from sana_wm.training.clip_banks import ClipBanks
from sana_wm.training.distill_recipe import LastingRecipe
from sana_wm.training.parallel import Peers
from sana_wm.training.recipe import STRIDE
from sana_wm.training.sources import ClipSource

PATHS = 32
"""Camera paths of each kind that worlds take a part of, from anywhere on."""
LEVEL = 0.9999
"""Cosine of a tilt that counts as none."""


@dataclass
class Group:
    """Worlds of one age.

    Attributes:
        first: first frames, one latent, with captions and intrinsics.
        path: (B, F, 4, 4) where the cameras go, relative to the first frame.
        until: chunks after which the group ends.
        poses: of the path that are behind it, the first one not counted.
        history: what the student remembers; before: the last that it made, with cameras. None at the beginning.
    """

    first: LatentBatch
    path: Tensor
    until: int
    poses: int = 0
    history: History | None = None
    before: LatentBatch | None = None

    @property
    def chunks(self) -> int:
        return 0 if self.history is None else self.history.chunks

    def next(self, latents: int) -> LatentBatch:
        """What comes next, as the student needs it: cameras, and no latents but a given first one."""
        poses = slice(self.poses, self.poses + STRIDE * latents + 1)
        given = self.first.latents
        empty = given.new_zeros(*given.shape[:2], latents, *given.shape[3:])
        begins = torch.cat([given, empty], 2) if self.history is None else empty
        return self._batch(begins, self.path[:, poses])

    def seen(self, made: Tensor, clip: LatentBatch) -> LatentBatch:
        """What was made of :meth:`next`, with gradients, as scores see it: behind what went before it."""
        if self.before is None:
            return self._batch(made, clip.c2w)
        c2w = torch.cat([self.before.c2w[:, :-1], clip.c2w], 1)
        return self._batch(torch.cat([self.before.latents, made], 2), relative_to_first(c2w))

    def go_on(self, made: Tensor, clip: LatentBatch, history: History, before: int) -> None:
        """It was made; the last `before` latents of it will be seen once more."""
        self.before = self._batch(made[:, :, -before:].detach(), clip.c2w[:, -(STRIDE * before + 1) :])
        self.history, self.poses = history, self.poses + clip.c2w.shape[1] - 1

    def _batch(self, latents: Tensor, c2w: Tensor) -> LatentBatch:
        intrinsics = self.first.intrinsics[:, :1].expand(-1, c2w.shape[1], -1)
        return LatentBatch(latents, c2w, intrinsics, self.first.captions)


class LastingWorlds:
    """Which steps go on with which worlds, and where those begin, all of which follow from the seed and the step.

    Args:
        size: latents of a chunk.
    """

    def __init__(
        self, plan: LastingRecipe, source: ClipSource, banks: ClipBanks, size: int, seed: int, peers: Peers
    ) -> None:
        self.plan, self.source, self.banks, self.size, self.seed, self.peers = plan, source, banks, size, seed, peers
        self._groups: dict[int, Group] = {}
        self._paths: tuple[Tensor, Tensor] | None = None

    def draw(self, step: int, whose: int) -> Group | None:
        """The worlds that half a step goes on with, the same for all peers; None if it is taken on clips."""
        drawn = random.Random(self.seed * 9_176_431 + 2 * step + whose)
        if drawn.random() >= self.plan.share:
            return None
        number = drawn.randrange(self.plan.groups)
        group = self._groups.get(number)
        if group is None or group.chunks + self.plan.chunks > group.until:
            group = self._groups[number] = self._begin(step, whose, drawn)
        return group

    def limit(self, step: int) -> float:
        """Chunks that worlds which begin at a step may have at most."""
        plan = self.plan
        grown = min(1.0, step / plan.growing_steps)
        return plan.longest_at_first + grown * (plan.longest - plan.longest_at_first)

    def _begin(self, step: int, whose: int, drawn: random.Random) -> Group:
        chunks = self.plan.chunks
        until = max(chunks, int(math.exp(drawn.uniform(math.log(chunks), math.log(self.limit(step) + 1)))))
        generator = torch.Generator().manual_seed(self.peers.seed((self.seed * 1_000_039 + step) * 2 + whose))
        bank = self.banks.shortest
        self.banks.fill(bank, step)
        clips = bank.draw(self.plan.worlds, bank.num_frames, generator)
        first = LatentBatch(clips.latents[:, :, :1], clips.c2w[:, :1], clips.intrinsics[:, :1], clips.captions)
        tilted = clips.c2w[:, :, 1, 1].amin(1) < LEVEL  # a player of Freedoom does not look up or down
        return Group(first, self._path(STRIDE * self.size * until, tilted, generator), until)

    def _path(self, steps: int, tilted: Tensor, generator: torch.Generator) -> Tensor:
        if self._paths is None:
            longest = STRIDE * self.size * self.plan.longest + 1
            level, tilting = (self.source.key_paths(PATHS, longest, tilts=tilts) for tilts in (False, True))
            self._paths = level, tilting
        level, tilting = self._paths
        device = tilted.device
        index = torch.randint(PATHS, (len(tilted), 1), generator=generator).to(device)
        begin = torch.randint(level.shape[1] - steps, (len(tilted), 1), generator=generator).to(device)
        frames = begin + torch.arange(steps + 1, device=device)
        chosen = torch.where(tilted[:, None, None, None], tilting[index, frames], level[index, frames])
        return relative_to_first(chosen)
