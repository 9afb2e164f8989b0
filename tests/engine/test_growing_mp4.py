"""A growing video plays after every chunk, survives what ends its writing, and goes on as the same file."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from sana_wm.engine.growing_mp4 import GrowingMp4
from sana_wm.engine.mp4 import write_mp4
from sana_wm.errors import InputError


def colours(frames: int, first: int = 0) -> np.ndarray:
    """Smooth frames that tell the colour channels and the frames apart."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    one = np.stack(np.broadcast_arrays(ramp[None], ramp[::-1][None], ramp[:48, None]), axis=-1)
    return np.stack([np.roll(one, 4 * i, axis=1) for i in range(first, first + frames)])


CHUNKS = [colours(25), colours(24, 25), colours(24, 49)]


def played(path: Path) -> tuple[np.ndarray, list[float]]:
    """Frames and times that a player gets before it reaches the end or what it cannot read."""
    frames, times = [], []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))
                times.append(float(frame.time or 0.0))
        except av.error.InvalidDataError:
            pass
    return np.stack(frames), times


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As a disk that fills up: a write takes what still fits, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_everything_so_far_plays_after_every_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with GrowingMp4(path, 16) as video:
        for chunk in CHUNKS:
            video.append(chunk)
            frames, times = played(path)
            expected = colours(video.frames)
            assert frames.shape == expected.shape
            assert np.abs(frames.astype(int) - expected).mean() < 4
            assert times == pytest.approx([index / 16 for index in range(len(frames))])
    write_mp4(tmp_path / "b.mp4", colours(73), 16)
    with av.open(str(path)) as one, av.open(str(tmp_path / "b.mp4")) as other:
        for name in ("pix_fmt", "colorspace", "color_range", "color_primaries", "color_trc"):
            coders = [container.streams.video[0].codec_context for container in (one, other)]
            assert getattr(coders[0], name) == getattr(coders[1], name)
        assert one.streams.video[0].average_rate == 16


def test_a_video_gone_on_with_is_the_same_file(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.mp4", tmp_path / "parts.mp4"
    with GrowingMp4(whole, 24) as video:
        for chunk in CHUNKS:
            video.append(chunk)
    with GrowingMp4(parts, 24) as video:
        video.append(CHUNKS[0])
        place = {"frames": video.frames, "chunks": video.chunks, "nbytes": video.nbytes}
        video.append(CHUNKS[2])  # what was made after the place to go on from is dropped
    with GrowingMp4(parts, 24, **place) as video:
        video.append(CHUNKS[1])
        video.append(CHUNKS[2])
    assert parts.read_bytes() == whole.read_bytes()


def test_equal_chunks_give_equal_files_whatever_else_is_in_memory(tmp_path: Path) -> None:
    """With the encoder's macroblock tree a few such chunks in a hundred were others, on a processor with AVX-512."""
    noise = np.random.default_rng(0)
    frames = np.stack([np.roll(noise.integers(60, 140, (32, 48, 3), dtype=np.uint8), i, axis=1) for i in range(24)])
    held: list[np.ndarray] = []
    found = set()
    for number in range(150):
        held = [*held[-30:], np.full(noise.integers(1, 300_000), number, dtype=np.uint8)]
        if len(held) > 20:
            del held[noise.integers(len(held))]
        with GrowingMp4(tmp_path / f"{number}.mp4", 16) as video:
            video.append(frames)
        found.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(found) == 1


def test_the_file_plays_at_every_moment_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of what is written has reached the disk, in the order in which it is written."""
    path, moments = tmp_path / "a.mp4", []
    write = GrowingMp4._write

    def watched(video: GrowingMp4, data: bytes, at: int) -> None:
        for part in (0, 1, 5, 8, 9, 100, 190, len(data) // 2, len(data) - 1):
            write(video, data[: min(part, len(data))], at)
            moments.append(len(played(path)[0]))
        write(video, data, at)

    with GrowingMp4(path, 16) as video:
        video.append(CHUNKS[0])
        monkeypatch.setattr(GrowingMp4, "_write", watched)
        video.append(CHUNKS[1])
    assert set(moments[:9]) == {25}  # while the fragment comes, and it is there with the last byte of its name
    assert set(moments[9:]) <= {25, 49}
    assert len(played(path)[0]) == 49


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with GrowingMp4(path, 16) as video:
        video.append(CHUNKS[0])
        before = path.read_bytes()
        with files_no_larger_than(len(before) + 100), pytest.raises(OSError, match="File too large"):
            video.append(CHUNKS[1])
        assert path.read_bytes() == before
        video.append(CHUNKS[1])  # there is room again
    assert len(played(path)[0]) == 49


def test_frames_no_encoder_takes_leave_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with GrowingMp4(path, 16) as video:
        video.append(CHUNKS[0])
        with pytest.raises(av.FFmpegError):
            video.append(np.zeros((24, 33, 47, 3), np.uint8))
    assert len(played(path)[0]) == 25


def test_a_place_that_cannot_be_gone_on_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        GrowingMp4(tmp_path / "no" / "a.mp4", 16)
    with pytest.raises(InputError, match="cannot be written"):
        GrowingMp4(tmp_path / "a.mp4", 16, frames=25, chunks=1, nbytes=10)
    (tmp_path / "a.mp4").write_bytes(b"12345")
    with pytest.raises(InputError, match="has 5 bytes"):
        GrowingMp4(tmp_path / "a.mp4", 16, frames=25, chunks=1, nbytes=10)
    assert (tmp_path / "a.mp4").read_bytes() == b"12345"
    with pytest.raises(InputError, match="fps is 0"):
        GrowingMp4(tmp_path / "b.mp4", 0)
