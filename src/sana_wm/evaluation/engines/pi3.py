"""The networks that the published numbers were made with: Pi3 and Pi3X (package `pi3`), for users who have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sana_wm.engine.devices import choose_device
from sana_wm.evaluation.engines.engine import Recovered, check_video, load_library

PIXELS, PATCH = 255_000, 14
"""Largest area of the pictures the networks see, and what their sides are multiples of."""
CLASSES = {"pi3": ("pi3.models.pi3", "Pi3", "yyfz233/Pi3"), "pi3x": ("pi3.models.pi3x", "Pi3X", "yyfz233/Pi3X")}
BF16_CAPABILITY = 8


def network_size(height: int, width: int) -> tuple[int, int]:
    """Height and width that a picture is resized to (spec 60 section 2.1)."""
    scale = (PIXELS / (width * height)) ** 0.5
    k, m = max(1, round(width * scale / PATCH)), max(1, round(height * scale / PATCH))
    while PATCH * k * PATCH * m > PIXELS:
        if k / m > width / height:
            k -= 1
        else:
            m -= 1
    return PATCH * m, PATCH * k


class Pi3:
    """All frames in one pass; poses in the network's own frame and scale.

    Args:
        weights: a folder or hub id, None for the published ones.
        device: as for a model.
    """

    def __init__(self, name: str, weights: str | Path | None = None, device: str = "auto") -> None:
        self.name = name
        module, kind, published = CLASSES[name]
        library = load_library(module, name, "install the package pi3 with its weights, or use another engine")
        self.device = choose_device(device)
        self.model: Any = getattr(library, kind).from_pretrained(str(weights or published)).to(self.device).eval()

    @torch.no_grad()
    def estimate(self, frames: Tensor, intrinsics: Tensor | None) -> Recovered:
        """Poses of all frames; the networks need no intrinsics and use none."""
        check_video(frames, intrinsics)
        size = network_size(frames.shape[2], frames.shape[3])
        pictures = torch.stack([_resized(frame, size) for frame in frames])
        cuda = self.device.type == "cuda"
        modern = cuda and torch.cuda.get_device_capability(self.device)[0] >= BF16_CAPABILITY
        with torch.autocast(self.device.type, torch.bfloat16 if modern or not cuda else torch.float16, enabled=cuda):
            c2w = self.model(pictures[None].to(self.device))["camera_poses"][0].double().cpu()
        valid = torch.isfinite(c2w).flatten(1).all(1)
        return Recovered(torch.where(valid[:, None, None], c2w, torch.eye(4, dtype=torch.float64)), valid)


def _resized(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """(3,h,w) in [0, 1] of a frame (3,H,W) uint8, with the filter of the release (spec 60 section 2.1)."""
    picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
    smaller = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(smaller)).permute(2, 0, 1).float() / 255
