"""One scene while it is measured: its video, its truth where it is known, and what each part of the result holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.camera import camera_numbers
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.floors import AUTOENCODER, RENDER, FloorCache, autoencoder_floor, render_floor
from sana_wm.evaluation.bench.frames_pass import Looks, look
from sana_wm.evaluation.bench.over_time import change, sharpness_over_time, window_means
from sana_wm.evaluation.bench.plan import SHEET
from sana_wm.evaluation.bench.scene_sheet import sheet_frames, write_scene_sheet
from sana_wm.evaluation.bench.settings import CAMERA, REVISIT, TEMPORAL, TRUTH, VBENCH
from sana_wm.evaluation.bench.tools import ENGINES_WITH_TRUTH, Tools
from sana_wm.evaluation.bench.true_video import TrueVideo, video_intrinsics
from sana_wm.evaluation.bench.video_file import VideoFile
from sana_wm.evaluation.engines import Recovered
from sana_wm.evaluation.engines.engine import check_video
from sana_wm.evaluation.image import sharpness
from sana_wm.evaluation.revisit import RevisitPair, best_pairs, score_pairs, video_frame

DIGITS = 4

Parts = dict[str, dict[str, Any]]


class Measuring:
    """Measures one video."""

    def __init__(self, tools: Tools, scene: BenchScene, video: VideoFile) -> None:
        self.tools, self.plan, self.scene, self.video = tools, tools.plan, scene, video
        self.measures = tools.plan.measures

    @cached_property
    def truth(self) -> TrueVideo | None:
        """The true video, rendered when it is first needed; None where it is not known."""
        if self.scene.split not in self.plan.true_splits:
            return None
        return TrueVideo.fitted(self.tools.true_clip(self.scene), (self.video.height, self.video.width))

    def parts(self, wanted: Sequence[str]) -> Parts:
        """The parts of the result that `wanted` names, in one pass over the video."""
        frames = sheet_frames(self.video.num_frames)
        sampled = range(0, self.video.num_frames, self.measures.interval)
        pairs = self._pairs()
        keep = {*frames, *(frame for _, *both in pairs for frame in both), *(sampled if CAMERA in wanted else ())}
        lpips = self.tools.lpips() if {TRUTH, REVISIT} & set(wanted) else None
        looks = look(
            self.video,
            keep=keep,
            truth=self.truth.frames if TRUTH in wanted and self.truth is not None else None,
            interval=self.measures.interval,
            skip_first=self.plan.skip_first,
            lpips=lpips if TRUTH in wanted else None,
            imaging_quality=self.tools.imaging_quality() if TEMPORAL in wanted else None,
        )
        makers = {
            SHEET: lambda: self._sheet(looks, frames),
            CAMERA: lambda: self._camera(torch.stack([looks.kept[i] for i in sampled])),
            TRUTH: lambda: self._likeness(looks),
            REVISIT: lambda: self._revisit(looks, pairs),
            TEMPORAL: lambda: self._temporal(looks),
            VBENCH: lambda: {"temporal_flickering": looks.flickering},
        }
        return {part: makers[part]() for part in wanted}

    def _sheet(self, looks: Looks, frames: list[int]) -> dict[str, Any]:
        rows = [[looks.kept[i] for i in frames]]
        if self.truth is not None:
            rows.insert(0, [self.truth.frames[i] for i in frames if i < len(self.truth.frames)])
        write_scene_sheet(self.plan.method.sheet(self.scene.split, self.scene.scene_id), rows)
        return {"frames": frames, "rows": ["truth", "generated"][-len(rows) :]}

    def _camera(self, sampled: Tensor) -> dict[str, Any]:
        interval = self.measures.interval
        lens = video_intrinsics(self.scene, self.video)
        count = min(len(sampled), len(lens[::interval]))
        begin = time.perf_counter()
        recovered, reason = self._recovered(sampled[:count], lens[::interval][:count])
        seconds = time.perf_counter() - begin
        metric = self.measures.engine in ENGINES_WITH_TRUTH
        numbers = camera_numbers(
            self.scene.c2w, recovered, interval=interval, skip_first=self.plan.skip_first, metric=metric
        )
        numbers["failed"] = reason or numbers["failed"]
        keys = self.plan.floor_keys(self.scene, self.video) if reason is None else {}
        floors = {kind: self._floor(kind, key, lens) for kind, key in keys.items()}
        return {"engine": self.measures.engine, "engine_seconds": round(seconds, 2), **numbers, "floors": floors}

    def _recovered(self, frames: Tensor, lens: Tensor) -> tuple[Recovered, str | None]:
        """Poses of the sampled frames (n,3,H,W); of a video that no engine takes none, and why."""
        try:
            check_video(frames, lens)
        except InputError as error:
            return Recovered.nothing(len(frames)), str(error)
        views = None if self.truth is None else self.truth.views(self.measures.interval, len(frames))
        return self.tools.engine(views).estimate(frames, lens), None

    def _floor(self, kind: str, key: str, lens: Tensor) -> dict[str, Any]:
        cache = FloorCache(self.plan.floors)
        found = cache.read(self.scene, kind, key)
        if found is not None:
            return found
        assert self.truth is not None
        interval, skip_first = self.measures.interval, self.plan.skip_first
        count = min(self.video.num_frames, len(self.scene.c2w), len(self.truth.frames))
        frames, asked = self.truth.frames[:count], self.scene.c2w[:count]
        engine = self.tools.engine(self.truth.views(interval, len(frames[::interval])))
        if kind == RENDER:
            floor = render_floor(engine, frames, asked, lens, interval=interval, skip_first=skip_first)
        else:
            assert kind == AUTOENCODER
            floor = autoencoder_floor(
                engine, self.tools.codec(), frames, asked, lens,
                fps=self.video.fps, interval=interval, skip_first=skip_first, scratch=cache.path(self.scene, kind, key),
            )  # fmt: skip
        cache.write(self.scene, kind, key, floor)
        return floor

    def _pairs(self) -> list[tuple[RevisitPair, int, int]]:
        """The best pairs with their frames in this video; those that fall together in it are left out."""
        placed = []
        for pair in best_pairs(self.scene.pairs, self.measures.max_pairs):
            i, j = (
                video_frame(frame, self.video.fps, self.video.num_frames, self.measures.ref_fps)
                for frame in (pair.frame_a, pair.frame_b)
            )
            if i != j:
                placed.append((pair, i, j))
        return placed

    def _revisit(self, looks: Looks, pairs: list[tuple[RevisitPair, int, int]]) -> dict[str, Any]:
        scored = []
        for pair, i, j in pairs:
            both = torch.stack([looks.kept[i], looks.kept[j]])
            in_two = RevisitPair(0, 1, pair.distance_m, pair.angle_diff_deg, pair.quality_score)
            (score,) = score_pairs(both, [in_two], lpips=self.tools.lpips())
            scored.append({
                "frame_a": pair.frame_a, "frame_b": pair.frame_b, "video_a": i, "video_b": j,
                "psnr": score.psnr, "ssim": score.ssim, "lpips": score.lpips,
            })  # fmt: skip
        return {"available": len(self.scene.pairs), "pairs": scored}

    def _likeness(self, looks: Looks) -> dict[str, Any]:
        """Likeness to the truth; means are without frame 0, which is given."""
        result: dict[str, Any] = {
            name: float(values[1:].mean()) if len(values) > 1 else None for name, values in looks.likeness.items()
        }
        psnr = looks.likeness["psnr"]
        result["psnr_windows"] = window_means(psnr, self.video.fps, self.measures.window_seconds, skip_first=True)
        result["compared_frames"] = looks.compared
        result["curves"] = {name: _rounded(values, DIGITS) for name, values in looks.likeness.items()}
        return result

    def _temporal(self, looks: Looks) -> dict[str, Any]:
        fps, seconds, skip = self.video.fps, self.measures.window_seconds, self.plan.skip_first
        made = looks.curves["sharpness"]
        true = None if self.truth is None else sharpness(self.truth.frames)
        result: dict[str, Any] = {
            "sharpness": sharpness_over_time(made, true, fps=fps, seconds=seconds, skip_first=skip),
            "curves": {"sharpness": _rounded(made, 6)},
            "imaging_quality": None,
        }
        if true is not None:
            result["curves"]["true_sharpness"] = _rounded(true, 6)
        quality = looks.curves.get("imaging_quality")
        if quality is not None:
            windows = window_means(quality, fps, seconds, skip)
            result["curves"]["imaging_quality"] = _rounded(quality, 3)
            result["imaging_quality"] = {"windows": windows, "delta": change(windows)}
        return result


def _rounded(values: Tensor, digits: int) -> list[float]:
    return [round(value, digits) for value in values.tolist()]
