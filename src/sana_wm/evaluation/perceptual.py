"""LPIPS through its own library (spec 61-benchmark.md section 5.1): AlexNet, version 0.1, at full resolution."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from sana_wm.errors import InputError, first_line


class Lpips:
    """The learned distance between pictures; lower is more alike. Build it once, it holds a network.

    The library reads its linear layers from its own package and AlexNet's weights through torchvision, which downloads
    them on first use. Raises :class:`InputError` where the package is missing or cannot get its weights.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        try:
            library: Any = import_module("lpips")
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
            raise InputError(
                f"LPIPS needs the package lpips, which does not load ({first_line(error)}); "
                "install the extra [perceptual]."
            ) from error
        try:
            network = library.LPIPS(net="alex", version="0.1", verbose=False)
        except OSError as error:  # no network, or a damaged download
            raise InputError(
                f"the weights of AlexNet for LPIPS cannot be had ({first_line(error)}); they must be downloadable or "
                "lie in torchvision's cache."
            ) from error
        self.device = torch.device(device)
        self._network = network.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, video_a: Tensor, video_b: Tensor) -> Tensor:
        """(F,) float64 distances of two videos (F,3,H,W), uint8 in 0..255 or floating point in [-1, 1]."""
        if video_a.shape != video_b.shape or video_a.ndim != 4 or video_a.shape[1] != 3:
            raise InputError(
                f"the videos have the shapes {tuple(video_a.shape)} and {tuple(video_b.shape)}; both must be one "
                "(F, 3, H, W)"
            )
        pairs = zip(video_a, video_b, strict=True)
        values = [self._network(self._input(a), self._input(b)).reshape(()) for a, b in pairs]
        return torch.stack(values).double().cpu() if values else torch.zeros(0, dtype=torch.float64)

    def _input(self, frame: Tensor) -> Tensor:
        frame = frame.to(self.device)
        if frame.dtype == torch.uint8:
            return frame[None].float() / 127.5 - 1.0
        if frame.dtype.is_floating_point:
            return frame[None].float()
        raise InputError(f"the frames hold {frame.dtype}; they must be uint8 in 0..255 or floating point in [-1, 1]")
