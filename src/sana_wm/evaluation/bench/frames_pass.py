"""One pass over a video: everything that is measured frame by frame, and the few frames that are needed later."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.video_file import VideoFile
from sana_wm.evaluation.image import frame_psnr, sharpness, ssim
from sana_wm.evaluation.vbench import temporal_flickering

PairMeasure = Callable[[Tensor, Tensor], Tensor]
FrameMeasure = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Looks:
    """What one pass gave.

    Attributes:
        curves: name -> (F,) float64 over all frames: "sharpness", and "imaging_quality" where that was asked for.
        likeness: name -> float64 over `compared` frames ("ssim", "lpips") or all that have a true one ("psnr").
        compared: the frames, multiples of the interval, that SSIM and LPIPS are of.
        flickering: VBench's temporal flickering, without frame 0 where that is left out; None of a single step.
        kept: frame -> (3,H,W) uint8.
    """

    curves: dict[str, Tensor]
    likeness: dict[str, Tensor]
    compared: list[int]
    flickering: float | None
    kept: dict[int, Tensor]


def look(
    video: VideoFile,
    *,
    keep: Collection[int] = (),
    truth: Tensor | None = None,
    interval: int = 1,
    skip_first: bool = False,
    lpips: PairMeasure | None = None,
    imaging_quality: FrameMeasure | None = None,
) -> Looks:
    """Measure a video; `truth` (F,3,H,W) uint8 of the same size may be longer or shorter.

    Raises :class:`InputError` for a video that cannot be decoded, or a truth of another size.
    """
    size = (3, video.height, video.width)
    if truth is not None and tuple(truth.shape[1:]) != size:
        raise InputError(f"the true frames are {tuple(truth.shape[1:])}; '{video.path}' needs {size}.")
    curves, likeness = _Lists(), _Lists()
    compared: list[int] = []
    kept: dict[int, Tensor] = {}
    steps = _Steps(skip_first)
    start = 0
    for chunk in video.chunks():
        curves.add("sharpness", sharpness(chunk))
        if imaging_quality is not None:
            curves.add("imaging_quality", imaging_quality(chunk))
        steps.add(chunk)
        if truth is not None and start < len(truth):
            true = truth[start : start + len(chunk)].cpu()
            made = chunk[: len(true)]
            likeness.add("psnr", frame_psnr(made, true))
            at = [i for i in range(len(true)) if (start + i) % interval == 0]
            compared += [start + i for i in at]
            if at:
                likeness.add("ssim", ssim(made[at], true[at]))
            if at and lpips is not None:
                likeness.add("lpips", lpips(made[at], true[at]))
        kept |= {start + i: frame.clone() for i, frame in enumerate(chunk) if start + i in keep}
        start += len(chunk)
    return Looks(curves.joined(), likeness.joined(), compared, steps.flickering(), kept)


@dataclass
class _Lists:
    """Pieces of curves by name."""

    parts: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        self.parts.setdefault(name, []).append(values)

    def joined(self) -> dict[str, Tensor]:
        return {name: torch.cat(values) for name, values in self.parts.items()}


class _Steps:
    """Temporal flickering of frames that come in chunks."""

    def __init__(self, skip_first: bool) -> None:
        self._skip = int(skip_first)
        self._last: Tensor | None = None
        self._sum, self._count = 0.0, 0

    def add(self, chunk: Tensor) -> None:
        frames = chunk[self._skip :] if self._last is None else torch.cat([self._last, chunk])
        self._last = chunk[-1:].clone()
        if len(frames) > 1:
            self._sum += (len(frames) - 1) * temporal_flickering(frames)
            self._count += len(frames) - 1

    def flickering(self) -> float | None:
        return self._sum / self._count if self._count else None
