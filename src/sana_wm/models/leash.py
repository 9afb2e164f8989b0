"""What is remembered, brought along behind a camera that goes on without end.

The camera branch reads poses relative to each other, so what it remembers can be moved together with the origin of the
world and is read as before. Ray maps are told relative to that origin, writes into states are weakened by the distance
from it, and a sink is read from ever further away: all that no training of finite clips has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sana_wm.models.config import ChunkSettings, Leash
from sana_wm.models.history import BlockState, ChunkKeys, GdnMemory, History, SoftmaxMemory
from sana_wm.ops.prepare import Turn
from sana_wm.ops.rotary import rotary_table

Table = tuple[Tensor, Tensor]
"""Cosines and sines (1,pairs) of one position."""


def followed(origin: Tensor, camera: Tensor, leash: Leash) -> Tensor:
    """The origin (B,3) float64 after the camera has come to a place (B,3): it stays until the leash is tight."""
    behind = camera.double() - origin
    slack = leash.distance / behind.norm(dim=-1, keepdim=True)
    return origin + behind * (1 - slack).clamp_min(0)


def as_read(history: History | None, leash: Leash | None, chunks: ChunkSettings) -> History | None:
    """The past as the next chunk reads it: a sink seems no longer ago than the leash allows."""
    if history is None or leash is None or not _has_old_sink(history, chunks) or history.frames <= leash.frames:
        return history
    softmax = (block.attention for block in history.blocks if isinstance(block.attention, SoftmaxMemory))
    keys = next((attention.chunks[0].keys for attention in softmax), None)
    if keys is None:
        return history
    # Filled where it is: a copy to a GPU would be waited for.
    position = torch.full((1,), history.frames - leash.frames, device=keys.device)
    main, camera = (rotary_table(position, 1, 1, keys.shape[-1], camera=which) for which in (False, True))
    return _with_chunks(history, lambda index, kept: _later(kept, main, camera) if index == 0 else kept)


def brought_along(after: History, before: History | None, offset: Tensor, chunks: ChunkSettings) -> History:
    """The past to keep, once a chunk has been added and the origin of the world has moved by `offset` (B,3).

    What is remembered moves with it, but for a sink, which is not left behind: it stays where it was relative to the
    origin, and as it was in `before`, whatever it seemed when it was read. So nothing is rounded over and over.
    """
    sink = _has_old_sink(after, chunks)
    if before is not None and sink:
        after = History(tuple(map(_with_first, after.blocks, before.blocks)), after.frames, after.chunks)
    if not offset.any():
        return after
    move = torch.eye(4).repeat(len(offset), 1, 1)
    move[:, :3, 3] = -offset.cpu()
    move = move.to(after.blocks[0].feed_forward_tail.device)
    moved = _with_chunks(after, lambda index, kept: kept if index == 0 and sink else _moved(kept, move))
    return replace(moved, blocks=tuple(_with_state(block, move) for block in moved.blocks))


def _has_old_sink(history: History, chunks: ChunkSettings) -> bool:
    """Whether the first chunk is remembered only because it is the first."""
    return chunks.sink and 0 < chunks.window < history.chunks


def _with_chunks(history: History, change: Callable[[int, ChunkKeys], ChunkKeys]) -> History:
    """The keys and values of every chunk changed, by a function that also gets its index."""

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


def _with_state(block: BlockState, move: Tensor) -> BlockState:
    """The state of a camera branch moved: a sum of keys times values, both moved; (B,h,D,D)."""
    memory = block.attention
    if not isinstance(memory, GdnMemory) or memory.camera is None:
        return block
    state = _moved_heads(_moved_heads(memory.camera, move).mT, move).mT
    return replace(block, attention=replace(memory, camera=state))


def _moved(kept: ChunkKeys, move: Tensor) -> ChunkKeys:
    if kept.camera_keys is None or kept.camera_values is None:
        return kept
    return ChunkKeys(kept.keys, kept.values, *(_moved_heads(x, move) for x in (kept.camera_keys, kept.camera_values)))


def _moved_heads(x: Tensor, move: Tensor) -> Tensor:
    """Keys or values (B,N,h,D) of a camera branch moved by (B,4,4), at the time they were."""
    one = torch.ones(1, x.shape[-1] // 4, device=x.device)
    return _turned(x, (one, one - 1), move)


def _later(kept: ChunkKeys, main: Table, camera: Table) -> ChunkKeys:
    """Turned on by the angles of some frames, in the tables of both branches."""
    there = torch.eye(4, device=kept.keys.device)[None]
    moved = (None if x is None else _turned(x, camera, there) for x in (kept.camera_keys, kept.camera_values))
    return ChunkKeys(_turned(kept.keys, main), kept.values, *moved)


def _turned(x: Tensor, table: Table, move: Tensor | None = None) -> Tensor:
    """Heads (B,N,h,D) turned by a table of one position; with `move` (B,4,4) their second half, and the first moved."""
    cos, sin = (part.expand(x.shape[1], -1) for part in table)
    matrix = None if move is None else move[:, None].expand(*x.shape[:2], 4, 4)
    return Turn(cos, sin, matrix).of(x).to(x.dtype)
