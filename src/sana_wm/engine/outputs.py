"""Everything a generation leaves on disk: video, contact sheet, path plot, description, and the video with overlay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sana_wm.engine.mp4 import write_mp4
from sana_wm.engine.path_plot import plot_path
from sana_wm.engine.progress import Progress, StageClock
from sana_wm.engine.sheet import contact_sheet
from sana_wm.engine.sidecar import write_sidecar
from sana_wm.engine.staging import staged
from sana_wm.engine.video import WorldVideo
from sana_wm.geometry.overlay import draw_overlay


def output_names(name: str, *, overlay: bool = False) -> dict[str, str]:
    """File names by kind of a generation called `name`."""
    endings = {"video": ".mp4", "sheet": "_sheet.png", "path": "_path.png", "sidecar": ".json"}
    if overlay:
        endings["overlay"] = "_overlay.mp4"
    return {kind: name + ending for kind, ending in endings.items()}


def write_outputs(
    video: WorldVideo,
    directory: Path,
    name: str,
    *,
    fps: int | None = None,
    overlay: bool = False,
    timings: Mapping[str, float] | None = None,
    request: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    mark: str = "",
) -> dict[str, Path]:
    """Write the files of :func:`output_names` into `directory`; all of them appear, or none. Returns where they are.

    Args:
        fps: rate of the files where it is not the video's own; the motion from frame to frame stays.
        overlay: also write the video with the camera's motion drawn on it.
        timings: seconds of stages that `video` does not know of, for the description.
        request: what the command line was asked for, for the description.
        progress: called with ("write", frames done, frames in all).
        mark: see :func:`~sana_wm.engine.staging.staged`.

    Raises:
        InputError: the place cannot be written.
    """
    rate = video.fps if fps is None else fps
    names = output_names(name, overlay=overlay)
    count = len(video.frames)
    clock = StageClock(progress)
    with staged(directory, mark) as folder:
        with clock.stage("write", count * (1 + overlay)) as report:
            write_mp4(folder / names["video"], video.frames, rate, report)
            contact_sheet(video.frames, rate).save(folder / names["sheet"])
            plot_path(video.c2w).save(folder / names["path"])
            if overlay:
                drawn = draw_overlay(video.frames, video.c2w)
                write_mp4(folder / names["overlay"], drawn, rate, lambda done: report(count + done))
        seconds = {**(timings or {}), **video.timings, **clock.seconds}
        write_sidecar(folder / names["sidecar"], video, fps=rate, timings=seconds, request=request)
    return {kind: directory / file for kind, file in names.items()}
