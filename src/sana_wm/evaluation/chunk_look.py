"""How a chunk looks, in a few numbers that show a video that greys out, burns in, blurs or stands still."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.evaluation.image import LUMA, sharpness
from sana_wm.evaluation.minute import FROZEN_BELOW, changes
from sana_wm.geometry.actions import DEFAULT_ROTATION_SPEED_DEG, DEFAULT_TRANSLATION_SPEED

DARKEST, BRIGHTEST = 2, 253
"""A pixel with a channel beyond them is clipped."""
LOOKS = ("brightness", "contrast", "saturation", "clipped", "sharpness")


def look(frames: Tensor) -> dict[str, float]:
    """Means over frames (F,3,H,W) uint8 of :data:`LOOKS`.

    brightness, contrast: mean and standard deviation of the luma, levels of 255. saturation: largest less smallest
    channel of a pixel, levels of 255. clipped: share of the pixels. sharpness: see :func:`image.sharpness`.
    """
    weights = torch.tensor(LUMA, device=frames.device).view(3, 1, 1)
    rows = []
    for frame in frames:
        levels = frame.float()
        luma = (weights * levels).sum(0)
        most, least = levels.amax(0), levels.amin(0)
        clipped = ((least <= DARKEST) | (most >= BRIGHTEST)).float().mean()
        rows.append(torch.stack([luma.mean(), luma.std(), (most - least).mean(), clipped]))
    numbers = [*torch.stack(rows).double().mean(0).tolist(), float(sharpness(frames).mean())]
    return dict(zip(LOOKS, numbers, strict=True))


def stillness(before: Tensor, frames: Tensor, moving: Tensor) -> dict[str, float]:
    """How much frames (F,3,H,W) uint8 change, from `before` (3,H,W) on, and how many repeat the one before them.

    moving: (F,) where the camera moves; elsewhere a repeated frame is right. `frozen` counts within it.
    """
    change = changes(torch.cat([before[None], frames])).cpu()
    frozen = (change < FROZEN_BELOW) & moving
    return {"change": float(change.mean()), "moving": int(moving.sum()), "frozen": int(frozen.sum())}


def moves(c2w: Tensor) -> Tensor:
    """(F-1,) whether the camera of poses (F,4,4) goes or turns at least half as fast as one held key makes it."""
    poses = c2w.double()
    gone = (poses[1:, :3, 3] - poses[:-1, :3, 3]).norm(dim=-1)
    # |R1 - R2| is sqrt(2) times a small angle, which an arc cosine would lose in rounding.
    turned = (poses[1:, :3, :3] - poses[:-1, :3, :3]).flatten(1).norm(dim=-1).div(2**0.5).rad2deg()
    return (gone >= DEFAULT_TRANSLATION_SPEED / 2) | (turned >= DEFAULT_ROTATION_SPEED_DEG / 2)
