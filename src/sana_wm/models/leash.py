"""What is remembered, brought along behind a camera that goes on without end.

The camera branch reads poses relative to each other, so what it remembers can be moved together with the origin of the
world and is read as before. Ray maps are told relative to that origin, writes into states are weakened by the distance
from it, and a sink is read from ever further away: all that no training of finite clips has seen.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from sana_wm.geometry.chunks import visible_chunks
from sana_wm.models.config import ChunkSettings, Leash
from sana_wm.models.history import BlockState, ChunkKeys, History, SoftmaxMemory
from sana_wm.ops.rotary import turn_later
from sana_wm.ops.ucpe import seen_from


def followed(origin: Tensor, camera: Tensor, leash: Leash) -> Tensor:
    """The origin (B,3) float64 after the camera has come to a place (B,3): it stays until the leash is tight."""
    behind = camera.double() - origin
    slack = leash.distance / behind.norm(dim=-1, keepdim=True)
    return origin + behind * (1 - slack).clamp_min(0)


def brought_along(history: History, offset: Tensor, frames: int, leash: Leash, chunks: ChunkSettings) -> History:
    """The past as it is told once the origin of the world has moved by `offset` (B,3) and a chunk of `frames` latent
    frames has been added.

    A sink is not left behind: it stays where it was relative to the origin, and once it was `leash.frames` ago it
    becomes later with every chunk.
    """
    old = chunks.sink and chunks.window > 0 and 0 not in visible_chunks(history.chunks, chunks.window, sink=False)
    still = not bool(offset.any())
    offset = offset.to(history.blocks[0].feed_forward_tail.device)
    later = max(0, history.frames - leash.frames) - max(0, history.frames - frames - leash.frames)

    def moved(index: int, kept: ChunkKeys) -> ChunkKeys:
        if index == 0 and old:
            return _later(kept, later)
        return kept if still else _seen_from(kept, offset)

    def brought(block: BlockState) -> BlockState:
        attention = block.attention
        if isinstance(attention, SoftmaxMemory):
            return replace(block, attention=SoftmaxMemory({i: moved(i, kept) for i, kept in attention.chunks.items()}))
        if still or attention.camera is None:
            return block
        return replace(block, attention=replace(attention, camera=_state_seen_from(attention.camera, offset)))

    return replace(history, blocks=tuple(brought(block) for block in history.blocks))


def _seen_from(kept: ChunkKeys, offset: Tensor) -> ChunkKeys:
    if kept.camera_keys is None or kept.camera_values is None:
        return kept
    moved = seen_from(kept.camera_keys, offset), seen_from(kept.camera_values, offset)
    return replace(kept, camera_keys=moved[0], camera_values=moved[1])


def _state_seen_from(state: Tensor, offset: Tensor) -> Tensor:
    """A state (B,h,D,D) is a sum of keys times values, both moved."""
    return seen_from(seen_from(state, offset).mT, offset).mT


def _later(kept: ChunkKeys, frames: int) -> ChunkKeys:
    if frames == 0:
        return kept
    camera = (None if x is None else turn_later(x, frames, camera=True) for x in (kept.camera_keys, kept.camera_values))
    return ChunkKeys(turn_later(kept.keys, frames), kept.values, *camera)
