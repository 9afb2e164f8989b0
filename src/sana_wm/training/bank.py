"""Encoded clips kept in memory, so that a clip that was expensive to render and encode is trained on more than once.

Clip n of the bank always is clip n of its stream, and it lies in slot n mod capacity: what the bank holds at a step
follows from the step, so a resumed run rebuilds exactly what was there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from sana_wm.engine.pixels import to_video
from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.geometry.poses import relative_to_first
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.training.sources import ClipBatch, ClipSource

ENCODED_AT_ONCE = 2048
"""Frames sent through the encoder together."""


@dataclass(frozen=True)
class LatentBatch:
    """latents (B, C, T, H, W) float32, c2w (B, F, 4, 4) relative to the first frame, intrinsics (B, F, 4), caption ids
    (B, bytes)."""

    latents: Tensor
    c2w: Tensor
    intrinsics: Tensor
    captions: Tensor

    def cameras(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """camera_conditions (B, T, 20) and chunk_plucker (B, 48, T, H, W) of clips whose pictures have that size."""
        given = (self.c2w, self.intrinsics, size, (self.latents.shape[-2], self.latents.shape[-1]))
        with self.latents.device:  # tables of indices are made where they are used, which nothing has to wait for
            return camera_conditions(*given), chunk_plucker(*given)


class LatentBank:
    """A ring of `capacity` encoded clips of `num_frames` frames."""

    def __init__(
        self,
        source: ClipSource,
        stream: str,
        codec: NanoAutoencoder,
        text: NanoTextEncoder,
        *,
        num_frames: int,
        capacity: int,
        group: int,
    ) -> None:
        self.source, self.stream, self.codec, self.text = source, stream, codec, text
        self.num_frames, self.capacity, self.group = num_frames, capacity, group
        self.written = 0
        self._ring: LatentBatch | None = None

    def hold(self, total: int) -> None:
        """Make the bank hold the last `capacity` of the first `total` clips of the stream, a multiple of the group."""
        start = max(self.written, total - self.capacity)
        start -= start % self.group
        if start != self.written or self._ring is None:
            self._batches = self.source.batches(self.stream, start // self.group, self.group, self.num_frames)
        groups = range(start, total, self.group)
        for first in tqdm(groups, desc=f"bank of {self.num_frames} frames", disable=len(groups) < 8, mininterval=5.0):
            self._put(first, self._kept(self._encode(next(self._batches)), first))
        self.written = total

    def draw(self, batch: int, num_frames: int, generator: torch.Generator) -> LatentBatch:
        """`batch` random clips, cut to their first `num_frames` frames; `generator` on the CPU."""
        assert self._ring is not None
        filled = min(self.written, self.capacity)
        index = torch.randint(filled, (batch,), generator=generator).to(self._ring.latents.device, non_blocking=True)
        frames = (num_frames - 1) // self.codec.temporal_stride + 1
        r = self._ring
        return LatentBatch(
            r.latents[index, :, :frames].float(),
            r.c2w[index, :num_frames],
            r.intrinsics[index, :num_frames],
            r.captions[index],
        )

    @torch.no_grad()
    def _encode(self, clips: ClipBatch) -> LatentBatch:
        device = clips.frames.device
        at_once = max(1, ENCODED_AT_ONCE // self.num_frames)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            latents = torch.cat([self.codec.encode(to_video(part)) for part in clips.frames.split(at_once)])
        ids = self.text.tokenize(clips.captions).to(device, non_blocking=True)
        return LatentBatch(latents.float(), relative_to_first(clips.c2w), clips.intrinsics, ids)

    def _kept(self, batch: LatentBatch, first: int) -> LatentBatch:
        """What is kept of encoded clips first, first + 1, ... of the stream."""
        return batch

    def _put(self, first: int, batch: LatentBatch) -> None:
        if self._ring is None:
            half = batch.latents.half() if batch.latents.is_cuda else batch.latents
            parts = (half, batch.c2w, batch.intrinsics, batch.captions)
            self._ring = LatentBatch(*(_room(x, self.capacity) for x in parts))
        slots = torch.arange(first, first + len(batch.latents), device=batch.latents.device) % self.capacity
        r = self._ring
        for ring, new in zip(
            (r.latents, r.c2w, r.intrinsics, r.captions),
            (batch.latents, batch.c2w, batch.intrinsics, batch.captions),
            strict=True,
        ):
            ring[slots] = new.to(ring.dtype)


def _room(example: Tensor, capacity: int) -> Tensor:
    return torch.empty((capacity, *example.shape[1:]), dtype=example.dtype, device=example.device)
