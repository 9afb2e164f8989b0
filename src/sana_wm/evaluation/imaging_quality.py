"""Imaging quality of every frame: MUSIQ through `pyiqa`, as VBench runs it (spec 61-benchmark.md section 4.2)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.errors import InputError, first_line

LONGEST_SIDE = 512


class ImagingQuality:
    """The network `musiq_spaq`; build it once. Scores are 0 to 100, more is better.

    weights: the checkpoint `musiq_spaq_ckpt-358bb6af.pth`, at the user's path; `pyiqa` reads it. Raises
    :class:`InputError` where the package or the file is missing.
    """

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        if not weights.is_file():
            raise InputError(f"the MUSIQ weights '{weights}' do not exist; give the file musiq_spaq_ckpt-358bb6af.pth.")
        try:
            library: Any = import_module("pyiqa.archs.musiq_arch")
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
            raise InputError(
                f"imaging quality needs the package pyiqa 0.1.10, which does not load ({first_line(error)}); install "
                "it beside this package."
            ) from error
        self.device = torch.device(device)
        network = library.MUSIQ(pretrained_model_path=str(weights))
        self._network = network.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, video: Tensor) -> Tensor:
        """(F,) float64 scores of a video (F,3,H,W) uint8, one frame at a time."""
        if video.dtype != torch.uint8 or video.ndim != 4 or video.shape[1] != 3:
            raise InputError(
                f"the video is {video.dtype} of shape {tuple(video.shape)}; it must be uint8 (F, 3, H, W)."
            )
        scores = [float(self._network(fit(frame[None].to(self.device)))) for frame in video]
        return torch.tensor(scores, dtype=torch.float64)


def fit(frames: Tensor) -> Tensor:
    """Frames (F,3,H,W) uint8 as the network wants them: float32 in [0, 1], longer side at most 512.

    Bilinear without antialiasing and sides cut to whole pixels, as VBench resizes; smaller frames are left alone. On
    uint8 input VBench's resize rounds to whole levels, so this does too.
    """
    H, W = frames.shape[-2:]
    values = frames.float()
    if max(H, W) > LONGEST_SIDE:
        scale = LONGEST_SIDE / max(H, W)
        size = (int(scale * H), int(scale * W))
        values = F.interpolate(values, size=size, mode="bilinear", align_corners=False).round()
    return values / 255.0
