"""Does the picture get worse over the minute? Quality in windows of ten seconds, and first less last window.

Spec 61-benchmark.md section 5.2. The scores may be any per-frame quality in which more is better: imaging quality
(MUSIQ) gives the published Delta IQ, sharpness over true sharpness gives ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.errors import InputError

WINDOW_SECONDS = 10.0
RELEASE_FPS = 16.0
LEAST_FRAMES = 16
"""A window with fewer frames is not scored."""


@dataclass(frozen=True)
class Degradation:
    """Mean quality of each window over the videos that have it.

    Attributes:
        windows: (W,) float64, in the units of the scores, first to last in time.
        videos: how many videos each mean is over.
    """

    windows: Tensor
    videos: tuple[int, ...]

    @property
    def delta(self) -> float:
        """First less last window (Delta IQ): positive where the picture gets worse."""
        return float(self.windows[0] - self.windows[-1])


def degradation(
    scores: Sequence[Tensor],
    fps: float = RELEASE_FPS,
    *,
    window_seconds: float = WINDOW_SECONDS,
    skip_first_frame: bool = False,
    compat: bool = False,
) -> Degradation:
    """Window means of per-frame scores: one (F,) tensor a video, all at `fps`.

    Frames behind the last whole window are dropped; a video shorter than one window is one window. skip_first_frame:
    leave out frame 0, which a refiner copies from the input image.
    compat: as the release, windows are `window_seconds` at 16 fps whatever the rate, and videos of unequal length
    average over different sets. Otherwise the true rate counts, and such videos are refused.
    Raises :class:`InputError` for scores that are no finite curve, no scorable window, or unequal sets.
    """
    if not (fps > 0 and window_seconds > 0):
        raise InputError(f"fps is {fps} and window_seconds {window_seconds}; both must be above 0.")
    size = int(window_seconds * RELEASE_FPS) if compat else round(window_seconds * fps)
    if size < 1:
        raise InputError(
            f"a window of {window_seconds:g} s holds {size} frames at {fps:g} fps; it must hold at least 1."
        )
    per_video = [_window_means(_checked(s, i)[int(skip_first_frame) :], size) for i, s in enumerate(scores)]
    counts = [len(means) for means in per_video]
    if not counts or max(counts) == 0:
        raise InputError(f"none of the {len(counts)} videos has a window of at least {LEAST_FRAMES} frames.")
    if not compat and len(set(counts)) > 1:
        raise InputError(
            f"video 0 has {counts[0]} windows and video {_first_other(counts)} has {counts[_first_other(counts)]}; all "
            "must have the same number, or the first and the last window would average different videos."
        )
    columns = [torch.stack([m[w] for m in per_video if len(m) > w]) for w in range(max(counts))]
    return Degradation(torch.stack([column.mean() for column in columns]), tuple(len(column) for column in columns))


def _first_other(counts: Sequence[int]) -> int:
    return next(i for i, count in enumerate(counts) if count != counts[0])


def _window_means(scores: Tensor, size: int) -> list[Tensor]:
    windows = [scores[start : start + size] for start in range(0, max(1, len(scores) // size) * size, size)]
    return [window.mean() for window in windows if len(window) >= LEAST_FRAMES]


def _checked(scores: Tensor, index: int) -> Tensor:
    if scores.ndim != 1:
        raise InputError(f"the scores of video {index} have the shape {tuple(scores.shape)}; they must be (frames,).")
    if not torch.isfinite(scores).all():
        frame = int((~torch.isfinite(scores)).nonzero()[0, 0])
        raise InputError(f"the score of video {index}, frame {frame}, is {float(scores[frame])}; it must be finite.")
    return scores.double()
