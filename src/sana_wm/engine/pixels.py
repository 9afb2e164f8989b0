"""Between the 8-bit frames of a video and the numbers in [-1, 1] that codecs take and give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_video(frames: Tensor) -> Tensor:
    """Frames (B,F,3,H,W) uint8 as video (B,3,F,H,W) float32 in [-1, 1]."""
    return frames.transpose(1, 2).float().div_(127.5).sub_(1)


def to_levels(video: Tensor) -> Tensor:
    """Numbers in [-1, 1] as uint8 of the same shape, rounded; what lies outside is cut off."""
    return (video.float() * 127.5).add_(127.5).clamp_(0, 255).round_().to(torch.uint8)


def to_frames(video: Tensor) -> npt.NDArray[np.uint8]:
    """A video (3,F,H,W) as frames (F,H,W,3), one after another in memory."""
    # Put in order where the video is: a GPU does in no time what takes a CPU a tenth of a second for 24 frames of 720p.
    levels = to_levels(video).permute(1, 2, 3, 0).contiguous()
    if levels.device.type != "cuda":
        return levels.cpu().numpy()
    # A GPU writes into pinned memory many times as fast. PyTorch keeps that for the next time, and who keeps frames
    # should not keep it from others: they go on into memory of their own, by all cores.
    staged = torch.empty(levels.shape, dtype=torch.uint8, pin_memory=True).copy_(levels)
    frames = np.empty(levels.shape, dtype=np.uint8)
    torch.from_numpy(frames).copy_(staged)
    return frames
