"""Reading a video file frame by frame; a minute of 720p at once would take gigabytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from torch import Tensor

from sana_wm.errors import InputError, first_line

CHUNK = 32
"""Frames looked at together."""


class VideoError(InputError):
    """A video that is missing, damaged or empty."""


@dataclass(frozen=True)
class VideoFile:
    """A video that can be decoded: frames it holds, size in pixels, frames a second."""

    path: Path
    num_frames: int
    height: int
    width: int
    fps: float

    @classmethod
    def open(cls, path: Path) -> VideoFile:
        """Read what a file says of itself; a file that does not say how many frames it has is decoded to count them.

        Raises :class:`VideoError` if it is missing, no video, or has no frames or no rate.
        """
        if not path.is_file():
            raise VideoError(f"the video '{path}' does not exist.")
        with _opened(path) as (_, stream):
            count, rate = stream.frames, stream.average_rate
            size = (stream.codec_context.height, stream.codec_context.width)
        count = count or sum(1 for _ in _decode(path))
        if count == 0 or not rate:
            raise VideoError(f"the video '{path}' has {count} frames at rate {rate}; both must be above 0.")
        return cls(path, count, *size, float(rate))

    def frames(self) -> Iterator[Tensor]:
        """(3,H,W) uint8, one after another.

        Raises :class:`VideoError` where the file is damaged, or holds fewer or more frames than it says.
        """
        count = 0
        for frame in _decode(self.path):
            yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).contiguous()
            count += 1
        if count != self.num_frames:
            raise VideoError(f"the video '{self.path}' says it has {self.num_frames} frames, but {count} are in it.")

    def chunks(self) -> Iterator[Tensor]:
        """(f,3,H,W) uint8 with f at most :data:`CHUNK`."""
        return chunked(self.frames())


def chunked(frames: Iterable[Tensor], size: int = CHUNK) -> Iterator[Tensor]:
    """Frames (3,H,W), stacked `size` at a time."""
    group: list[Tensor] = []
    for frame in frames:
        group.append(frame)
        if len(group) == size:
            yield torch.stack(group)
            group = []
    if group:
        yield torch.stack(group)


def _decode(path: Path) -> Iterator[av.VideoFrame]:
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        yield from container.decode(stream)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"'{path}' holds no video.")
            yield container, container.streams.video[0]
    except (FFmpegError, EOFError) as error:
        raise VideoError(f"the video '{path}' cannot be decoded ({first_line(error)}).") from error
