"""What is measured on one held-out clip; benchmarks/README.md says what each number means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.evaluation.image import frame_psnr, sharpness
from sana_wm.evaluation.marks import CONTROL_FRAMES, SPANS
from sana_wm.evaluation.minute import changes

PSNR_CAP = 50.0
"""Frames above it look equal in 8 bits. Without a cap the few clips that begin at rest, whose first frames are equal
byte for byte, would decide the mean of the repeated first frame."""
SHEET_TIMES = (0, 8, 16, 32, 48, 64, 80)


@dataclass(frozen=True)
class ClipVideos:
    """Videos (F,3,H,W) uint8 of one held-out clip.

    Attributes:
        truth: the true render; rebuilt: its round trip through the autoencoder.
        made, shuffled: generated with its own prompt, and with another clip's.
        mirrored: the same scene seen from the mirrored path.
    """

    truth: Tensor
    rebuilt: Tensor | None = None
    made: Tensor | None = None
    shuffled: Tensor | None = None
    mirrored: Tensor | None = None


def compare(videos: ClipVideos, parts: Sequence[str]) -> dict[str, float]:
    """Every number of one clip that `parts` ("ae", "follow", "control", "text") ask for and its videos give."""
    truth, rebuilt, made, shuffled, mirror = (
        videos.truth, videos.rebuilt, videos.made, videos.shuffled, videos.mirrored
    )  # fmt: skip
    numbers: dict[str, float] = {}
    if rebuilt is not None and "ae" in parts:
        numbers["ae"] = float(capped_psnr(rebuilt, truth).mean())
        numbers["ae.first_frame"] = float(capped_psnr(rebuilt[:1], truth[:1]))
        numbers["ae.sharpness_ratio"] = _sharpness_ratio(rebuilt, truth)
    if rebuilt is not None and made is not None and "follow" in parts:
        numbers |= _follow(truth, rebuilt, made)
    if mirror is not None and made is not None and {"control", "text"} & set(parts):
        control = _control(made, truth, mirror)
        if "control" in parts:
            numbers["control"] = control
            numbers["control.paths"] = _mean(capped_psnr(truth, mirror), *CONTROL_FRAMES)
            if numbers["control.paths"] < PSNR_CAP:
                numbers["control.where_paths_differ"] = control
            if rebuilt is not None:
                numbers["control.autoencoder"] = _control(rebuilt, truth, mirror)
        if shuffled is not None:
            numbers["text.control"] = _control(shuffled, truth, mirror)
            numbers["text.control_change"] = numbers["text.control"] - control
    if made is not None and shuffled is not None:
        own, other = capped_psnr(made, truth), capped_psnr(shuffled, truth)
        numbers["text.psnr_change"] = float((other - own)[1:].mean())
        numbers["text.between_prompts"] = float(capped_psnr(made, shuffled)[1:].mean())
    return numbers


def _follow(truth: Tensor, rebuilt: Tensor, made: Tensor) -> dict[str, float]:
    numbers: dict[str, float] = {}
    candidates = {"generated": made, "autoencoder": rebuilt, "repeat": truth[:1].expand_as(truth)}
    curves = {name: capped_psnr(video, truth) for name, video in candidates.items()}
    for first, last in SPANS:
        if first >= len(truth):
            continue
        span = f"follow.{first}-{last}"
        values = {name: _mean(curve, first, last) for name, curve in curves.items()}
        numbers |= {f"{span}.{name}": value for name, value in values.items()}
        numbers[f"{span}.below_autoencoder"] = values["autoencoder"] - values["generated"]
        numbers[f"{span}.above_repeat"] = values["generated"] - values["repeat"]
    numbers["follow.sharpness_ratio"] = _sharpness_ratio(made, truth)
    numbers["follow.border_jump"] = border_jump(made)
    numbers["follow.border_jump_of_truth"] = border_jump(truth)
    return numbers


def capped_psnr(a: Tensor, b: Tensor) -> Tensor:
    """(F,) PSNR in dB of two videos (F,3,H,W) uint8, at most :data:`PSNR_CAP`."""
    return frame_psnr(a, b).clamp_max(PSNR_CAP)


def border_jump(video: Tensor, stride: int = 8) -> float:
    """Mean change from frame to frame at the borders of latent frames over that inside them, for (F,3,H,W) uint8.

    Frames 1 ... 8 belong to one latent frame, so the borders lie behind frames 0, 8, 16 ...; about 1 where nothing
    flickers.
    """
    change = changes(video)[1:]  # the step from the given frame is no border between made frames
    border = torch.arange(1, len(change) + 1, device=video.device) % stride == 0
    return float((change[border].mean() + 1e-3) / (change[~border].mean() + 1e-3))


def _control(video: Tensor, truth: Tensor, mirror: Tensor) -> float:
    difference = capped_psnr(video, truth) - capped_psnr(video, mirror)
    return _mean(difference, *CONTROL_FRAMES)


def _mean(values: Tensor, first: int, last: int) -> float:
    return float(values[first : last + 1].mean())


def _sharpness_ratio(video: Tensor, truth: Tensor) -> float:
    """Sharpness of a video over that of the truth, in the frames of the contact sheets but the first."""
    times = sheet_times(len(truth), video.device)[1:]
    return float(sharpness(video[times]).mean() / sharpness(truth[times]).mean().clamp_min(1e-6))


def sheet_times(num_frames: int, device: torch.device) -> Tensor:
    """The frames that contact sheets show, where there are that many."""
    return torch.tensor([time for time in SHEET_TIMES if time < num_frames], device=device)
