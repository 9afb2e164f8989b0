"""How a quality changes over the length of a video, in windows of some seconds (spec 61-benchmark.md section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sana_wm.evaluation.degradation import LEAST_FRAMES, degradation

LEAST_TRUTH = 1e-6


def window_means(curve: Tensor, fps: float, seconds: float, skip_first: bool) -> list[float] | None:
    """Mean of a curve (F,) in each window; None where the video is too short for one window of 16 frames.

    Frames behind the last whole window are dropped; a video shorter than one window is one window.
    """
    if min(len(curve) - skip_first, round(seconds * fps)) < LEAST_FRAMES:
        return None
    means = degradation([curve], fps, window_seconds=seconds, skip_first_frame=skip_first).windows
    return [float(value) for value in means]


def sharpness_over_time(
    made: Tensor, truth: Tensor | None, *, fps: float, seconds: float, skip_first: bool
) -> dict[str, Any]:
    """Sharpness in windows: `made`, with a `truth` (F,) also `truth` and `ratio`; `relative` to the first window.

    The ratio is our measure of drift: 1 is as sharp as the truth, which itself becomes blurrier where the camera comes
    near a smooth wall. Without truth only the change relative to the video's own first window is known.
    """
    count = len(made) if truth is None else min(len(made), len(truth))
    windows = window_means(made[:count], fps, seconds, skip_first)
    result: dict[str, Any] = {"window_seconds": seconds, "made": windows, "relative": None}
    if windows is not None and windows[0] > 0:
        result["relative"] = [value / windows[0] for value in windows]
    if truth is not None:
        true = window_means(truth[:count], fps, seconds, skip_first)
        result["truth"] = true
        result["ratio"] = None
        if windows is not None and true is not None:
            result["ratio"] = [a / max(b, LEAST_TRUTH) for a, b in zip(windows, true, strict=True)]
    return result


def change(windows: Sequence[float] | None) -> float | None:
    """First less last window; None where there are fewer than two, which tell nothing about time."""
    return windows[0] - windows[-1] if windows is not None and len(windows) > 1 else None
