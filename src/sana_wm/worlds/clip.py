"""The common result of every world: a clip whose camera is known exactly."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class WorldClip:
    """One video clip with exact cameras.

    Attributes:
        frames: ``(F, 3, H, W)`` uint8.
        c2w: ``(F, 4, 4)`` float32 camera-to-world in the world frame of the clip (not re-based), OpenCV axes, metres.
        intrinsics: ``(F, 4)`` float32 ``fx, fy, cx, cy`` in pixels of the frames; pixel centres lie at integers.
        caption: what the scene shows; never a word about camera motion.
        depth: ``(F, H, W)`` float32 metres along the camera's z axis (planar depth, not ray length), ``inf`` for sky;
            ``None`` when it was not asked for.
        name: where the clip comes from, for example ``"procedural/train/000123"``.
    """

    frames: Tensor
    c2w: Tensor
    intrinsics: Tensor
    caption: str
    depth: Tensor | None
    name: str
