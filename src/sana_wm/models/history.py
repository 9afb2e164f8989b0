"""What a streaming model remembers of finished chunks: one typed state a block (spec 20, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.models.visibility import Visibility


@dataclass(frozen=True)
class GdnMemory:
    """Of a GDN block, after the last finished frame; constant in size.

    Attributes:
        state: (B,h,D,D) of the main branch, keys by values; z: (B,h,D,1); both float32.
        key_tail: (B,K-1,S,C) the last inputs of the filter on the keys, zeros before the first frame.
        camera, camera_key_tail: state (B,h,D,D) and tail of the camera branch; None without cameras.
    """

    state: Tensor
    z: Tensor
    key_tail: Tensor
    camera: Tensor | None = None
    camera_key_tail: Tensor | None = None


@dataclass(frozen=True)
class ChunkKeys:
    """Keys and values of one chunk in a softmax block, (B,n*S,h,D), as they were turned and moved when it was written:
    positions are absolute and cameras relative to frame 0, so they stay valid."""

    keys: Tensor
    values: Tensor
    camera_keys: Tensor | None = None
    camera_values: Tensor | None = None


@dataclass(frozen=True)
class SoftmaxMemory:
    """Of a softmax block: the chunks that a later one may still see, by their index in the video, rising."""

    chunks: dict[int, ChunkKeys]

    def with_chunks(self, new: Mapping[int, ChunkKeys], visibility: Visibility) -> SoftmaxMemory:
        """With what a call saves, without what no later chunk sees."""
        chunks = {**self.chunks, **new}
        seen = visibility.sees(max(chunks) + 1)
        return SoftmaxMemory({index: keys for index, keys in chunks.items() if index in seen})


@dataclass(frozen=True)
class BlockState:
    """What one block remembers: of its attention, and (B,1,S,C) the last input of the feed-forward's filter."""

    attention: GdnMemory | SoftmaxMemory
    feed_forward_tail: Tensor


@dataclass(frozen=True)
class History:
    """The past of a video, as far as a model needs it. Nothing in it is ever changed: to fork a world is to share it.

    Attributes:
        frames, chunks: latent frames and chunks so far.
    """

    blocks: tuple[BlockState, ...]
    frames: int
    chunks: int

    def tensors(self) -> dict[str, Tensor]:
        """By name, as a file holds them."""
        found: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks):
            found[f"{number}.feed_forward_tail"] = block.feed_forward_tail
            parts: dict[str, Any] = {"gdn": block.attention}
            if isinstance(block.attention, SoftmaxMemory):
                parts = {f"chunk{index}": keys for index, keys in block.attention.chunks.items()}
            for part, value in parts.items():
                named = ((f.name, getattr(value, f.name)) for f in fields(value))
                found |= {f"{number}.{part}.{name}": x for name, x in named if x is not None}
        return found

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], frames: int, chunks: int) -> History:
        """The reverse of :meth:`tensors`.

        Raises:
            InputError: the names are not those of a history.
        """
        blocks: dict[int, dict[str, dict[str, Tensor]]] = {}
        tails: dict[int, Tensor] = {}
        for name, x in tensors.items():
            number, _, rest = name.partition(".")
            part, _, field = rest.partition(".")
            if not number.isdigit():
                raise InputError(f"{name!r} is no tensor of a history; names begin with the number of a block.")
            if part == "feed_forward_tail":
                tails[int(number)] = x
            else:
                blocks.setdefault(int(number), {}).setdefault(part, {})[field] = x
        try:
            made = [BlockState(_memory(blocks[i]), tails[i]) for i in range(len(tails))]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"these tensors are no whole history: {error}") from error
        return cls(tuple(made), frames, chunks)

    def map(self, change: Callable[[Tensor], Tensor]) -> History:
        """With every tensor changed, to move it or to take only some rows of the batch."""
        return History.of({name: change(x) for name, x in self.tensors().items()}, self.frames, self.chunks)

    def at(self, frames: int, chunks: int, *, sink: bool) -> History:
        """The same past at another place of a video, which now has so many latent frames and chunks.

        What a call recorded for one chunk leaves behind is right for every later one but for these numbers; a sink
        stays chunk 0.
        """
        later = chunks - self.chunks

        def moved(attention: GdnMemory | SoftmaxMemory) -> GdnMemory | SoftmaxMemory:
            if isinstance(attention, GdnMemory):
                return attention
            return SoftmaxMemory({i if sink and i == 0 else i + later: x for i, x in attention.chunks.items()})

        blocks = tuple(replace(block, attention=moved(block.attention)) for block in self.blocks)
        return History(blocks, frames, chunks)

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.tensors().values())


def _memory(parts: dict[str, dict[str, Tensor]]) -> GdnMemory | SoftmaxMemory:
    if "gdn" in parts:
        return GdnMemory(**parts["gdn"])
    chunks = {int(name.removeprefix("chunk")): ChunkKeys(**keys) for name, keys in parts.items()}
    return SoftmaxMemory(dict(sorted(chunks.items())))
