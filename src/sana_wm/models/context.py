"""What all blocks of one forward pass share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sana_wm.ops.ucpe import RayFrames


@dataclass(frozen=True)
class BlockContext:
    """Conditioning that does not depend on the noise level, so one clip computes it once.

    Attributes:
        size: (T, H, W) of the latents.
        cos, sin: (N, D/2) rotary table.
        rays: camera transforms, None without a camera.
        caption: (B, L, width) embedded caption.
        caption_bias: (B, 1, 1, L) added to the logits of the caption, None if every token counts.
        plucker: (B, T, S, width) embedded Plücker maps, None without them.
    """

    size: tuple[int, int, int]
    cos: Tensor
    sin: Tensor
    rays: RayFrames | None
    caption: Tensor
    caption_bias: Tensor | None
    plucker: Tensor | None
