"""What the camera of a scene truly sees, fitted to the size of the video it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.video_file import VideoFile
from sana_wm.evaluation.engines import TrueViews
from sana_wm.geometry.intrinsics import crop_plan
from sana_wm.worlds.clip import WorldClip


@dataclass(frozen=True)
class TrueVideo:
    """The truth of one scene.

    Attributes:
        clip: as the world renders it, at its own size.
        frames: (F,3,H,W) uint8 at the size of the video, scaled and cropped as the model's first frame was.
    """

    clip: WorldClip
    frames: Tensor

    @classmethod
    def fitted(cls, clip: WorldClip, size: tuple[int, int]) -> TrueVideo:
        """`clip` beside a video of `size` (height, width)."""
        clip_size = (clip.frames.shape[2], clip.frames.shape[3])
        if clip_size == size:
            return cls(clip, clip.frames.cpu())
        plan = crop_plan((clip_size[1], clip_size[0]), size)
        frames = torch.empty(len(clip.frames), 3, *size, dtype=torch.uint8)
        for index, frame in enumerate(clip.frames.cpu()):
            picture = plan.apply(Image.fromarray(frame.permute(1, 2, 0).numpy()))
            pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
            frames[index] = pixels.view(*size, 3).permute(2, 0, 1)
        return cls(clip, frames)

    def views(self, interval: int, count: int) -> TrueViews | None:
        """The first `count` of the frames 0, interval, 2 interval ... at the world's own size; None without depth."""
        if self.clip.depth is None:
            return None
        parts = (self.clip.frames, self.clip.depth, self.clip.c2w, self.clip.intrinsics)
        frames, depth, c2w, intrinsics = (part[::interval][:count].cpu() for part in parts)
        return TrueViews(frames=frames, depth=depth, c2w=c2w.double(), intrinsics=intrinsics)


def video_intrinsics(scene: BenchScene, video: VideoFile) -> Tensor:
    """(F,4) float64 intrinsics in pixels of the video, which shows the source picture scaled and cut centrally."""
    with Image.open(scene.image_path) as picture:
        plan = crop_plan(picture.size, (video.height, video.width))
    return plan.intrinsics(scene.intrinsics.double())
