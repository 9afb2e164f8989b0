"""What a guest sees and takes home: pictures of a chunk, and an MP4 of a part of the walk."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from sana_wm.engine.growing_mp4 import Fragment

JPEG_QUALITY = 88


def encode_pictures(frames: npt.NDArray[np.uint8], encoding: str) -> list[bytes]:
    """Each frame of (n,H,W,3) as JPEG, or as its RGB bytes with "raw"."""
    if encoding == "raw":
        return [frame.tobytes() for frame in frames]
    found = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY)
        found.append(buffer.getvalue())
    return found


def join_clip(fragments: Sequence[Fragment]) -> bytes:
    """One MP4 of fragments that follow each other; it begins at second 0. Nothing is encoded again."""
    source = io.BytesIO(fragments[0].header + b"".join(fragment.content for fragment in fragments))
    target = io.BytesIO()
    with av.open(source) as given, av.open(target, "w", format="mp4") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        begins: int | None = None
        for packet in given.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            begins = packet.dts if begins is None else begins
            packet.dts, packet.pts = packet.dts - begins, packet.pts - begins
            packet.stream = copy
            made.mux(packet)
    return target.getvalue()
