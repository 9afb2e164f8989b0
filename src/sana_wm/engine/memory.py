"""What is said when a device has too little memory: which stage it was, and what would fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sana_wm.engine.failure import DeviceFullError

BYTES_PER_CHANNEL = 30
"""What a forward pass in 16 bits holds at its fullest for a token and a channel of the model's width, beside the
weights: 6.9 GB for 106,480 tokens and 2,240 channels (`sana-wm bench forward --preset 2.6b --latent_frames 121`)."""


@dataclass(frozen=True)
class Need:
    """A generation: its frames, the model's width, tokens of a latent frame and video frames it stands for, bytes of a
    number, and how many clips go through the model at once (2 with guidance).
    """

    num_frames: int
    width: int
    tokens: int
    stride: int
    element_size: int
    batch: int


def frames_that_fit(free: int, need: Need) -> int:
    """Video frames (8k + 1; 0 if not even one) whose denoising needs no more than `free` bytes."""
    each = BYTES_PER_CHANNEL * need.element_size // 2 * need.width * need.tokens * need.batch
    latents = free // each
    return need.stride * (latents - 1) + 1 if latents else 0


def out_of_memory(stage: str, device: torch.device, need: Need) -> DeviceFullError:
    """The error for a stage that ran out of memory."""
    said = f"stage {stage}: {need.num_frames} frames do not fit into the memory of {device}"
    if device.type != "cuda":
        return DeviceFullError(said + "; ask for fewer frames.")
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    fit = frames_that_fit(free, need)
    said += f" ({total / 1e9:.0f} GB, of which {free / 1e9:.1f} are free beside the weights)"
    if fit < need.stride + 1:
        return DeviceFullError(said + "; free some, or use a smaller model.")
    if fit >= need.num_frames:
        return DeviceFullError(said + "; denoising would fit, so free a little more or ask for fewer frames.")
    return DeviceFullError(said + f"; about {fit} frames would.")
