"""The videos of a benchmark run: which of them are there already, and how one is made."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sana_wm.engine.mp4 import write_mp4
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.progress import Progress
from sana_wm.engine.sidecar import write_sidecar
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.fingerprint import file_sha256, scene_print
from sana_wm.evaluation.bench.folder import MethodFolder, read_ours, replacing
from sana_wm.evaluation.bench.settings import GenerationSettings, key_of
from sana_wm.evaluation.bench.video_file import VideoFile


def video_key(settings: GenerationSettings, model_print: str, scene: BenchScene) -> str:
    """Key of the video of `scene`; the name of the model does not count, its content does."""
    asked = {name: value for name, value in asdict(settings).items() if name != "model"}
    return key_of({"generation": asked, "model": model_print, "scene": scene_print(scene)})


def has_video(folder: MethodFolder, scene: BenchScene, key: str) -> bool:
    """Whether the video made with `key` is there, whole and unchanged."""
    video = folder.video(scene.split, scene.scene_id)
    request = read_ours(folder.making(scene.split, scene.scene_id)).get("request", {})
    return video.is_file() and request.get("key") == key and request.get("file_sha256") == file_sha256(video)


def make_video(
    pipeline: SanaWMPipeline,
    folder: MethodFolder,
    scene: BenchScene,
    settings: GenerationSettings,
    key: str,
    progress: Progress | None = None,
) -> None:
    """Generate the video of a scene and write it, and then how it was made.

    One video frame a pose, as many as the path allows (8k + 1), written at the path's rate, so that a second of the
    video is a second of the path whatever rate the model usually has.

    Raises:
        InputError: the scene does not suit the model, or the disk says no.
        GenerationError: the model made something that is no video.
    """
    made = pipeline(
        scene.image_path,
        scene.prompt,
        c2w=scene.c2w.float(),
        intrinsics=scene.intrinsics.float(),
        num_frames=len(scene.c2w) - (len(scene.c2w) - 1) % pipeline.codec.temporal_stride,
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        flow_shift=settings.flow_shift,
        generator=settings.seed,
        progress=progress,
    )
    video = replace(made, fps=round(scene.fps))
    path, making = folder.video(scene.split, scene.scene_id), folder.making(scene.split, scene.scene_id)
    with replacing(path) as partial:
        write_mp4(partial, video.frames, video.fps)
    request = {"scene": scene.scene_id, "split": scene.split, "key": key, "file_sha256": file_sha256(path)}
    with replacing(making) as partial:
        write_sidecar(partial, video, fps=video.fps, timings=video.timings, request=request)


def method_info(settings: GenerationSettings, model_print: str, video: VideoFile | None) -> dict[str, Any]:
    """Content of `method_info.json` for a model of ours: the release's names, and what it was run with."""
    return {
        "model": settings.model,
        "variant": "bidirectional",
        "fps": None if video is None else video.fps,
        "resolution": None if video is None else f"{video.width}x{video.height}",
        "refiner": None,
        "model_fingerprint": model_print,
        "settings": asdict(settings),
    }
