"""Frames to an MP4 file that plays everywhere, browsers included."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from sana_wm.errors import InputError

CRF = 18
"""Constant quality of x264; 18 is close to what the eye cannot tell from the original."""
SERIAL_PIXELS = 2**17
"""Pictures of so many pixels are encoded by one thread, which on two cores is as fast and makes files that do not
depend on the number of cores."""
_BT709 = 1
MAX_FPS = 240


def check_fps(fps: int) -> None:
    """Refuse a rate outside 1 ... 240 frames a second."""
    if not 1 <= fps <= MAX_FPS:
        raise InputError(f"fps is {fps}; it must be between 1 and {MAX_FPS}.")


def write_mp4(
    path: Path, frames: npt.NDArray[np.uint8], fps: int, report: Callable[[int], None] | None = None
) -> None:
    """Write frames (F,H,W,3) as H.264 yuv420p with the index in front, so that playing starts before all is loaded.

    `report` gets the frames done so far. Height and width must be even.
    """
    check_fps(fps)
    options = {"movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = add_h264(container, fps, frames.shape[1:3])
        for index, pixels in enumerate(frames, start=1):
            picture = as_picture(pixels)
            picture.pts, picture.time_base = index - 1, Fraction(1, fps)
            container.mux(stream.encode(picture))
            if report is not None:
                report(index)
        container.mux(stream.encode())


def add_h264(container: OutputContainer, fps: int, size: tuple[int, ...], **options: str) -> VideoStream:
    """A stream of H.264 yuv420p for pictures of `size` = (height, width); `options` are x264's."""
    # Without the macroblock tree: on processors with AVX-512 it was seen to depend on what else is in memory, and equal
    # frames must give equal files.
    options = {"crf": str(CRF), "preset": "medium", "mbtree": "0", **options}
    if size[0] * size[1] <= SERIAL_PIXELS:
        options["threads"] = "1"
    stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    # Said in the file, so that no player guesses the colours from the size of the picture.
    coder = stream.codec_context
    coder.colorspace, coder.color_primaries, coder.color_trc = Colorspace.ITU709, _BT709, _BT709
    coder.color_range = ColorRange.MPEG
    return stream


def as_picture(pixels: npt.NDArray[np.uint8]) -> av.VideoFrame:
    """One frame (H,W,3) as such a stream takes it."""
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
