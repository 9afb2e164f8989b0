"""What is remembered, brought along behind a camera that goes on without end.

The camera branch reads poses relative to each other, so what it remembers can be moved together with the origin of the
world and is read as before. Ray maps are told relative to that origin, writes into states are weakened by the distance
from it, and a sink is read from ever further away: all that no training of finite clips has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from sana_wm.geometry.chunks import visible_chunks
from sana_wm.models.config import ChunkSettings, Leash
from sana_wm.models.history import BlockState, ChunkKeys, GdnMemory, History, SoftmaxMemory
from sana_wm.ops.rotary import turn_later
from sana_wm.ops.ucpe import seen_from


def followed(origin: Tensor, camera: Tensor, leash: Leash) -> Tensor:
    """The origin (B,3) float64 after the camera has come to a place (B,3): it stays until the leash is tight."""
    behind = camera.double() - origin
    slack = leash.distance / behind.norm(dim=-1, keepdim=True)
    return origin + behind * (1 - slack).clamp_min(0)


def as_read(history: History | None, leash: Leash | None, chunks: ChunkSettings) -> History | None:
    """The past as the next chunk reads it: a sink seems no longer ago than the leash allows."""
    if history is None or leash is None or not _has_sink(chunks):
        return history
    later = history.frames - max(leash.frames, 1 + chunks.size * chunks.window)
    return _with_chunks(history, lambda i, kept: _later(kept, later) if i == 0 else kept) if later > 0 else history


def brought_along(after: History, before: History | None, offset: Tensor, chunks: ChunkSettings) -> History:
    """The past to keep, once a chunk has been added and the origin of the world has moved by `offset` (B,3).

    What is remembered moves with it, but for a sink, which is not left behind: it stays where it was relative to the
    origin, and as it was in `before`, whatever it seemed when it was read. So nothing is rounded over and over.
    """
    sink = _has_sink(chunks) and 0 not in visible_chunks(after.chunks, chunks.window, sink=False)
    still = not bool(offset.any())
    offset = offset.to(after.blocks[0].feed_forward_tail.device)
    if before is not None and sink:
        after = History(tuple(map(_with_first, after.blocks, before.blocks)), after.frames, after.chunks)
    if still:
        return after
    moved = _with_chunks(after, lambda i, kept: kept if i == 0 and sink else _seen_from(kept, offset))
    return replace(moved, blocks=tuple(_with_state(block, offset) for block in moved.blocks))


def _has_sink(chunks: ChunkSettings) -> bool:
    return chunks.sink and chunks.window > 0


def _with_chunks(history: History, change: Callable[[int, ChunkKeys], ChunkKeys]) -> History:
    """The keys and values of every chunk changed, which also gets its index."""

    def changed(block: BlockState) -> BlockState:
        if not isinstance(block.attention, SoftmaxMemory):
            return block
        kept = block.attention.chunks
        return replace(block, attention=SoftmaxMemory({i: change(i, kept[i]) for i in kept}))

    return replace(history, blocks=tuple(map(changed, history.blocks)))


def _with_first(block: BlockState, before: BlockState) -> BlockState:
    """The first chunk as it was before."""
    if not isinstance(block.attention, SoftmaxMemory) or not isinstance(before.attention, SoftmaxMemory):
        return block
    return replace(block, attention=SoftmaxMemory({**block.attention.chunks, 0: before.attention.chunks[0]}))


def _with_state(block: BlockState, offset: Tensor) -> BlockState:
    """The state of a camera branch moved: a sum of keys times values, both moved; (B,h,D,D)."""
    memory = block.attention
    if not isinstance(memory, GdnMemory) or memory.camera is None:
        return block
    moved = seen_from(seen_from(memory.camera, offset).mT, offset).mT
    return replace(block, attention=replace(memory, camera=moved))


def _seen_from(kept: ChunkKeys, offset: Tensor) -> ChunkKeys:
    if kept.camera_keys is None or kept.camera_values is None:
        return kept
    moved = seen_from(kept.camera_keys, offset), seen_from(kept.camera_values, offset)
    return replace(kept, camera_keys=moved[0], camera_values=moved[1])


def _later(kept: ChunkKeys, frames: int) -> ChunkKeys:
    camera = (None if x is None else turn_later(x, frames, camera=True) for x in (kept.camera_keys, kept.camera_values))
    return ChunkKeys(turn_later(kept.keys, frames), kept.values, *camera)
