"""The error that would be measured on a perfect video: what is left is the pose engine's and the autoencoder's own.

Two floors of every scene with a known truth: the true render itself, and its round trip through the model's autoencoder
and the video file. Neither depends on what the model generated, so they are kept beside the benchmark and shared by all
methods whose settings agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sana_wm.checkpoints.components import Codec
from sana_wm.engine.decoding import decode_frames
from sana_wm.engine.mp4 import CRF, write_mp4
from sana_wm.engine.pixels import to_video
from sana_wm.evaluation.bench.camera import camera_numbers, floor_numbers
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.folder import read_ours, write_json
from sana_wm.evaluation.bench.frames_pass import look
from sana_wm.evaluation.bench.settings import key_of
from sana_wm.evaluation.bench.video_file import VideoFile
from sana_wm.evaluation.engines import PoseEngine
from sana_wm.evaluation.image import sharpness

RENDER, AUTOENCODER = "render", "autoencoder"


@dataclass(frozen=True)
class FloorCache:
    """Floors on disk: `<root>/<split>/<scene_id>_<kind>_<key>.json`."""

    root: Path

    def path(self, scene: BenchScene, kind: str, key: str) -> Path:
        return self.root / scene.split / f"{scene.scene_id}_{kind}_{key[:16]}.json"

    def read(self, scene: BenchScene, kind: str, key: str) -> dict[str, Any] | None:
        found = read_ours(self.path(scene, kind, key))
        return found["floor"] if found.get("key") == key else None

    def write(self, scene: BenchScene, kind: str, key: str, floor: Mapping[str, Any]) -> None:
        write_json(self.path(scene, kind, key), {"kind": kind, "key": key, "floor": floor})


def floor_key(camera: Mapping[str, Any], kind: str, codec_print: str | None) -> str:
    """Key of a floor: the `camera` settings that decide the numbers of the video, and for a round trip the codec."""
    return key_of({"camera": camera, "kind": kind, "codec": codec_print, "crf": CRF if codec_print else None})


def render_floor(
    engine: PoseEngine, truth: Tensor, asked: Tensor, intrinsics: Tensor, *, interval: int, skip_first: bool
) -> dict[str, Any]:
    """Camera errors of the true frames (F,3,H,W) uint8 themselves."""
    sampled = truth[::interval]
    recovered = engine.estimate(sampled, intrinsics[::interval][: len(sampled)])
    return floor_numbers(camera_numbers(asked, recovered, interval=interval, skip_first=skip_first))


@torch.inference_mode()
def autoencoder_floor(
    engine: PoseEngine,
    codec: Codec,
    truth: Tensor,
    asked: Tensor,
    intrinsics: Tensor,
    *,
    fps: float,
    interval: int,
    skip_first: bool,
    scratch: Path,
) -> dict[str, Any]:
    """Camera errors and likeness of the true frames (F,3,H,W) after the codec and a video file, `scratch`.mp4.

    Frames behind the last 8k + 1 are not used.
    """
    count = len(truth) - (len(truth) - 1) % codec.temporal_stride
    weight = next(codec.parameters())
    latents = codec.encode(to_video(truth[None, :count]).to(weight.device, weight.dtype)).float()
    frames = decode_frames(codec, latents, lambda done: None)
    path = scratch.with_suffix(".mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_mp4(path, frames, round(fps))
        video = VideoFile.open(path)
        wanted = range(0, count, interval)
        looks = look(video, keep=wanted, truth=truth, interval=interval, skip_first=skip_first)
    finally:
        path.unlink(missing_ok=True)
    recovered = engine.estimate(torch.stack([looks.kept[i] for i in wanted]), intrinsics[::interval][: len(wanted)])
    floor = floor_numbers(camera_numbers(asked[:count], recovered, interval=interval, skip_first=skip_first))
    likeness = {name: float(values[1:].mean()) for name, values in looks.likeness.items() if len(values) > 1}
    ratio = looks.curves["sharpness"][1:].mean() / sharpness(truth[1:count]).mean().clamp_min(1e-6)
    return {**floor, **likeness, "sharpness_ratio": float(ratio)}
