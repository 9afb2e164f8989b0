"""Everything a worker must know to make and measure the scenes of one run; small, and it travels between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.fingerprint import ModelPrint, file_sha256, scene_print
from sana_wm.evaluation.bench.floors import AUTOENCODER, RENDER, floor_key
from sana_wm.evaluation.bench.folder import MethodFolder
from sana_wm.evaluation.bench.settings import (
    CAMERA,
    REVISIT,
    TEMPORAL,
    TRUTH,
    VBENCH,
    GenerationSettings,
    MeasureSettings,
    key_of,
)
from sana_wm.evaluation.bench.video_file import VideoFile
from sana_wm.evaluation.bench.videos import video_key

SHEET = "sheet"
"""The contact sheet, which is made with every measurement."""


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        bench: folder of the benchmark; true_splits: those of its splits whose true video can be rendered.
        method: folder of the results; floors: where floors are kept; floored: the scenes (split, id) that have some.
        generation: None where the videos are there already; prints: of the model that makes them.
        skip_first: whether frame 0 is left out.
        iq_print: hash of the weights of imaging quality, if that is measured.
    """

    bench: Path
    true_splits: tuple[str, ...]
    method: MethodFolder
    floors: Path
    floored: frozenset[tuple[str, str]]
    generation: GenerationSettings | None
    prints: ModelPrint | None
    measures: MeasureSettings
    skip_first: bool
    iq_print: str | None

    def video_key(self, scene: BenchScene) -> str:
        assert self.generation is not None
        assert self.prints is not None
        return video_key(self.generation, self.prints.model, scene)

    def camera_settings(self, scene: BenchScene, frames: int, size: tuple[int, int]) -> dict[str, Any]:
        """What decides the camera numbers of a video of so many frames of `size` (height, width)."""
        return {
            "engine": self.measures.engine,
            "engine_settings": _plain(self.measures.engine_settings),
            "interval": self.measures.interval,
            "skip_first_frame": self.skip_first,
            "scene": scene_print(scene),
            "frames": frames,
            "size": list(size),
        }

    def floor_keys(self, scene: BenchScene, video: VideoFile) -> dict[str, str]:
        """Key of each floor that can be measured for this video."""
        if scene.split not in self.true_splits or (scene.split, scene.scene_id) not in self.floored:
            return {}
        frames = min(video.num_frames, len(scene.c2w))
        camera = self.camera_settings(scene, frames, (video.height, video.width))
        keys = {RENDER: floor_key(camera, RENDER, None)}
        if self.prints is not None:
            keys[AUTOENCODER] = floor_key(camera, AUTOENCODER, self.prints.codec)
        return keys

    def wanted(self, split: str) -> set[str]:
        """The parts of a result that this run asks for."""
        return {SHEET, *self.measures.metrics} - (set() if split in self.true_splits else {TRUTH})

    def part_keys(self, scene: BenchScene, video: VideoFile) -> dict[str, str]:
        """Key of each part a result can have; a part on disk with another key does not hold any more."""
        measures, true = self.measures, scene.split in self.true_splits
        windows = {"window_seconds": measures.window_seconds, "skip_first_frame": self.skip_first}
        camera = self.camera_settings(scene, video.num_frames, (video.height, video.width))
        settings: dict[str, Any] = {
            SHEET: {},
            CAMERA: {**camera, "floors": self.floor_keys(scene, video)},
            TRUTH: {"interval": measures.interval, "lpips": measures.lpips, **windows},
            REVISIT: {
                "pairs": [repr(pair) for pair in scene.pairs],
                "max_pairs": measures.max_pairs,
                "ref_fps": measures.ref_fps,
                "lpips": measures.lpips,
            },
            TEMPORAL: {**windows, "imaging_quality": self.iq_print},
            VBENCH: {"skip_first_frame": self.skip_first},
        }
        common = {"scene": scene_print(scene), "video": file_sha256(video.path), "true": true}
        return {part: key_of({**common, "part": part, **found}) for part, found in settings.items()}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON can hold them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
