"""What all blocks of one forward pass share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.models.embeddings import PatchEmbed
from sana_wm.models.visibility import WHOLE, Visibility
from sana_wm.ops.ucpe import RayFrames


@dataclass(frozen=True)
class PluckerTokens:
    """Plücker maps and what embeds them.

    Nothing nonlinear lies between the embedding and the projection of a block, so both are one small linear map
    (spec 10, section 14.2): a few dozen channels in, rather than the model's width.

    Attributes:
        tokens: (B, T, S, 48). weight: (width, 48); bias: (width,).
    """

    tokens: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, maps: Tensor, embedder: PatchEmbed) -> PluckerTokens:
        """maps: (B, 48, T, H, W)."""
        weight, bias = embedder.proj.weight, embedder.proj.bias
        assert bias is not None
        return cls(maps.flatten(3).permute(0, 2, 3, 1).to(weight.dtype).contiguous(), weight.flatten(1), bias)

    def through(self, projection: nn.Linear) -> Tensor:
        """(B, T, S, width): the maps embedded and projected."""
        with torch.autocast(self.tokens.device.type, enabled=False):
            outer = projection.weight.float()
            inner = torch.cat([self.weight, self.bias[:, None]], 1).float()  # one product, and none with a vector
            weight, bias = (outer @ inner).split([self.weight.shape[1], 1], 1)
            bias = projection.bias.float() + bias[:, 0]
        return F.linear(self.tokens, weight.to(self.tokens.dtype), bias.to(self.tokens.dtype))


@dataclass(frozen=True)
class BlockContext:
    """Conditioning that does not depend on the noise level, so one clip computes it once.

    Attributes:
        size: (T, H, W) of the latents.
        cos, sin: (N, D/2) rotary table.
        rays: camera transforms, None without a camera.
        caption: (B, L, width) embedded caption.
        caption_bias: (B, 1, 1, L) added to the logits of the caption, None if every token counts.
        plucker: Plücker maps, None without them.
        visibility: which frames see which; by default all see all.
        chunk: (T,) the chunk of every frame, None for a single one.
    """

    size: tuple[int, int, int]
    cos: Tensor
    sin: Tensor
    rays: RayFrames | None
    caption: Tensor
    caption_bias: Tensor | None
    plucker: PluckerTokens | None
    visibility: Visibility = WHOLE
    chunk: Tensor | None = None

    @property
    def saved_frames(self) -> int:
        """How many frames of the call become part of the past."""
        return self.visibility.saved_frames(self.size[0])
