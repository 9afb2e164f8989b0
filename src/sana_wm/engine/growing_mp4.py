"""An MP4 that plays while it is being written, and whatever ends the writing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import numpy.typing as npt

from sana_wm.engine.mp4 import add_h264, as_picture, check_fps
from sana_wm.errors import InputError

_MUXER = {
    # What may come before is not known when the header is written, so it holds no frames, and times are those of the
    # whole video although every fragment has a muxer of its own.
    "movflags": "+empty_moov+default_base_moof+frag_keyframe+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}
_TICKS = 1000
"""Of the clock in the file, in each frame."""


@dataclass(frozen=True)
class Fragment:
    """A chunk as a part of a fragmented MP4: `header` goes in front of the first one, `content` after what there is."""

    header: bytes
    content: bytes


def encode_fragment(frames: npt.NDArray[np.uint8], fps: int, first: int, chunk: int) -> Fragment:
    """The fragment of frames (n,H,W,3) that begin with frame `first` of a video, and are chunk `chunk` of it.

    Raises:
        av.FFmpegError: the encoder says no.
    """
    boxes = list(_boxes(_encoded(frames, fps, first, chunk)))
    return Fragment(_joined(boxes, (b"ftyp", b"moov")), _joined(boxes, (b"moof", b"mdat")))


class GrowingMp4:
    """A fragmented MP4: a header without frames, then one fragment a chunk, each of them whole in itself.

    A fragment depends on its frames and its place alone, so a video that was interrupted and gone on with is the same
    file, byte for byte. A fragment is written as a box that players skip, and made to count by its last eight bytes: so
    the file plays at every moment, whatever kills the process that writes it.
    """

    def __init__(self, path: Path, fps: int, *, frames: int = 0, chunks: int = 0, nbytes: int = 0) -> None:
        """Write to `path`; with the other numbers, those of an unfinished video, go on with it after so many bytes.

        Raises:
            InputError: the file cannot be opened, or it is shorter than that.
        """
        check_fps(fps)
        self.path, self.fps = path, fps
        self.frames, self.chunks, self.nbytes = frames, chunks, nbytes
        try:
            self._file = path.open("r+b" if chunks else "wb", buffering=0)
            found = self._file.seek(0, io.SEEK_END)
            if found >= nbytes:
                self._file.truncate(nbytes)
        except OSError as error:
            raise InputError(f"video '{path}' cannot be written ({error.strerror or error}).") from error
        if found < nbytes:
            self._file.close()
            raise InputError(f"video '{path}' has {found} bytes; the one to go on with has at least {nbytes}.")

    def append(self, frames: npt.NDArray[np.uint8]) -> None:
        """Add frames (n,H,W,3), which can be watched when this returns. Height and width must be even.

        Raises:
            OSError: the disk says no; the file then still holds what it held before.
            av.FFmpegError: the encoder says no; likewise.
        """
        encoded = encode_fragment(frames, self.fps, self.frames, self.chunks)
        header, fragment = b"" if self.chunks else encoded.header, encoded.content
        begins = self.nbytes + len(header)
        try:
            self._write(header + len(fragment).to_bytes(4, "big") + b"free" + fragment[8:], self.nbytes)
            self._write(fragment[:8], begins)
        except OSError:
            with suppress(OSError):
                self._file.truncate(self.nbytes)
            raise
        self.frames, self.chunks, self.nbytes = self.frames + len(frames), self.chunks + 1, begins + len(fragment)

    def _write(self, data: bytes, at: int) -> None:
        self._file.seek(at)
        written = 0
        while written < len(data):  # a disk that fills up takes a part before it refuses the rest
            written += self._file.write(data[written:]) or 0

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> GrowingMp4:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _encoded(frames: npt.NDArray[np.uint8], fps: int, first: int, chunk: int) -> bytes:
    """A whole fragmented MP4 of these frames, whose times begin with frame `first`, and which is fragment `chunk`."""
    buffer = io.BytesIO()
    options = {**_MUXER, "fragment_index": str(chunk + 1), "video_track_timescale": str(fps * _TICKS)}
    with av.open(buffer, "w", format="mp4", options=options) as container:
        # One key frame, at the start, so one fragment; no frame that waits for a later one, so none is held back.
        whole = {"bf": "0", "g": str(len(frames)), "sc_threshold": "0"}
        stream = add_h264(container, fps, frames.shape[1:3], **whole)
        for index, pixels in enumerate(frames, start=first):
            picture = as_picture(pixels)
            picture.pts, picture.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()


def _joined(boxes: list[tuple[bytes, bytes]], kinds: tuple[bytes, ...]) -> bytes:
    return b"".join(content for kind, content in boxes if kind in kinds)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parts an MP4 is made of: kind, and everything with its own head."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size
