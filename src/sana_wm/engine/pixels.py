"""Between the 8-bit frames of a video and the numbers in [-1, 1] that codecs take and give."""

from __future__ import annotations

import torch
from torch import Tensor


def to_video(frames: Tensor) -> Tensor:
    """Frames (B,F,3,H,W) uint8 as video (B,3,F,H,W) float32 in [-1, 1]."""
    return frames.transpose(1, 2).float().div_(127.5).sub_(1)


def to_levels(video: Tensor) -> Tensor:
    """Numbers in [-1, 1] as uint8 of the same shape, rounded; what lies outside is cut off."""
    return (video.float() * 127.5).add_(127.5).clamp_(0, 255).round_().to(torch.uint8)
