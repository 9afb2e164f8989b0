"""How long or large videos are cut for the LTX-2 codec, and put together again (spec 41, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sana_wm.errors import InputError

SPATIAL_STRIDE = 32
TEMPORAL_STRIDE = 8


@dataclass(frozen=True)
class Tiling:
    """Sizes of tiles and how they overlap; the defaults are the release's.

    Attributes:
        spatial: cut pictures larger than `tile_pixels` into tiles every `stride_pixels` that fade into each other.
            The release always does, also for the single first frame.
        temporal: "aligned" drops the first, duplicate frame of every later tile; "diffusers" drops the last one as
            diffusers does, which shows everything after the first tile one frame late and is there for comparison
            only; "off" decodes all at once. Encoding is the same with "aligned" and "diffusers".
        tile_frames: videos longer than this are cut; a tile holds one frame more.
    """

    spatial: bool = True
    temporal: Literal["aligned", "diffusers", "off"] = "aligned"
    tile_pixels: int = 512
    stride_pixels: int = 448
    tile_frames: int = 96
    stride_frames: int = 64

    def __post_init__(self) -> None:
        if self.temporal not in ("aligned", "diffusers", "off"):
            raise InputError(f"tiling.temporal is {self.temporal!r}; it must be 'aligned', 'diffusers' or 'off'")
        for name, unit in (("pixels", SPATIAL_STRIDE), ("frames", TEMPORAL_STRIDE)):
            tile, stride = getattr(self, f"tile_{name}"), getattr(self, f"stride_{name}")
            if tile % unit or stride % unit or not 0 < stride <= tile <= 2 * stride:
                raise InputError(
                    f"tiling: tile_{name} {tile} and stride_{name} {stride} must be multiples of {unit}, "
                    "the stride at most the tile and at least half of it"
                )


def stride_without_slivers(extent: int, tile: int, stride: int) -> int:
    """The largest stride up to `stride` whose last tile over `extent` latents is not a single latent, which cannot be
    padded."""
    if extent <= tile:
        return stride
    while stride > 1 and (extent - 1) % stride == 0:
        stride -= 1
    return stride


def fade_in(tile: Tensor, tail: Tensor) -> None:
    """Cross-fade, in place, from the end `tail` of the tile before; both show the same frames, from the first on."""
    extent = min(tail.shape[2], tile.shape[2])
    if extent == 0:
        return
    weight = (torch.arange(extent, device=tile.device) / extent).view(-1, 1, 1)
    tile[:, :, :extent] = tail[:, :, -extent:] * (1 - weight) + tile[:, :, :extent] * weight
