"""What a frame may see: the whole clip, its own chunk and those before it, or those and a remembered past."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.chunks import visible_chunks


@dataclass(frozen=True)
class Visibility:
    """The chunks of one call (spec 20, sections 2 and 3). The default is one chunk: every frame sees every other.

    Attributes:
        starts: first frames of the chunks, counted in the call, 0 first.
        first_chunk, first_frame: index of the call's first chunk and of its first latent frame in the whole video.
        window: earlier chunks whose keys softmax blocks read, 0 or less for all; with `sink` chunk 0 always is one of
            them (section 3.5). Recurrent states carry the whole past whatever the window.
        saved: chunks of the call, from its first on, that become part of the past; the others leave no trace.
    """

    starts: tuple[int, ...] = (0,)
    first_chunk: int = 0
    first_frame: int = 0
    window: int = 0
    sink: bool = False
    saved: int = 0

    def __post_init__(self) -> None:
        if self.starts[:1] != (0,) or any(b <= a for a, b in pairwise(self.starts)):
            raise InputError(f"chunk starts are {list(self.starts)}; they must rise strictly from 0.")
        if not 0 <= self.saved <= len(self.starts):
            raise InputError(f"saved is {self.saved}; the call has {len(self.starts)} chunks.")

    @property
    def whole(self) -> bool:
        """Whether all frames see each other."""
        return len(self.starts) == 1

    def bounds(self, frames: int) -> list[tuple[int, int]]:
        """First and last + 1 frame of every chunk of a call of `frames` frames."""
        if self.starts[-1] >= frames:
            raise InputError(f"chunk starts are {list(self.starts)}; they must stay below the {frames} latent frames.")
        return list(pairwise((*self.starts, frames)))

    def saved_frames(self, frames: int) -> int:
        """How many frames of the call become part of the past."""
        return (*self.starts, frames)[self.saved]

    def sees(self, chunk: int) -> list[int]:
        """Indices in the whole video of the chunks that chunk `chunk` of the whole video reads, itself last."""
        return [*visible_chunks(chunk, self.window, self.sink), chunk]

    def chunk_of_frames(self, frames: int, device: torch.device) -> Tensor | None:
        """(T,) the chunk of every frame of a call, from 0; None for a single chunk."""
        if self.whole:
            return None
        # Filled where it is: a table copied to a GPU would be waited for.
        found = torch.empty(frames, dtype=torch.int64, device=device)
        for chunk, (first, end) in enumerate(self.bounds(frames)):
            found[first:end].fill_(chunk)
        return found


WHOLE = Visibility()
"""Every frame sees every other."""
