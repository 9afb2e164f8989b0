"""Batches of clips: numbered, so that batch n is the same whoever asks for it and whatever ran before."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from sana_wm.data.recorded import RecordedClip, read_clips, write_clip
from sana_wm.engine.pixels import to_video
from sana_wm.training.parallel import Peers
from sana_wm.training.sources import STREAMS, ClipBatch, ClipSource
from sana_wm.worlds.clip import WorldClip
from sana_wm.worlds.procedural import Renderer, clips
from tests.training.tiny import CPU

H, W = 8, 16


def make(recorded: dict[int, list[RecordedClip]] | None = None, share: float = 0.0, **changes: object) -> ClipSource:
    settings: dict[str, object] = {"seed": 3, "workers": 0, "split": "train"} | changes
    return ClipSource(
        Renderer(samples=1),
        height=H,
        width=W,
        device=CPU,
        recorded=recorded or {},
        recorded_share=share,
        **settings,  # type: ignore[arg-type]
    )


def take(source: ClipSource, count: int, *, start: int = 0, stream: str = "world", size: int = 2) -> list[ClipBatch]:
    return list(islice(source.batches(stream, start, size, 9), count))


def assert_equal(a: ClipBatch, b: ClipBatch) -> None:
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.c2w, b.c2w)
    assert torch.equal(a.intrinsics, b.intrinsics)
    assert a.captions == b.captions


@pytest.fixture
def recorded(tmp_path: Path) -> dict[int, list[RecordedClip]]:
    """Three clips of 9 frames and two of 17; every pixel of a frame is 20 * clip + frame."""
    found = {}
    for length, count in ((9, 3), (17, 2)):
        folder = tmp_path / f"{length}"
        for i in range(count):
            frames = (20 * i + torch.arange(length, dtype=torch.uint8))[:, None, None, None].repeat(1, 3, H, W)
            c2w = torch.eye(4).repeat(length, 1, 1)
            c2w[:, 0, 3] = torch.arange(length) + 20.0 * i
            intrinsics = torch.full((length, 4), float(i))
            caption = f"{length} frames, clip {i}"
            write_clip(folder / f"{i}", WorldClip(frames, c2w, intrinsics, caption, None, "game"))
        found[length] = read_clips(folder)
    return found


def test_a_batch_is_the_world_clips_of_its_number() -> None:
    source = make()
    batch = take(source, 1, start=2)[0]
    assert batch.frames.shape == (2, 9, 3, H, W)
    place = int(np.random.default_rng(source.seed).integers(2**29))
    first = STREAMS.index("world") * 2**29 + place + 2 * 2
    for i, clip in enumerate(clips("train", first, 2, 9, H, W, renderer=Renderer(samples=1))):
        assert torch.equal(batch.frames[i], clip.frames)
        assert torch.equal(batch.c2w[i], clip.c2w)
        assert torch.equal(batch.intrinsics[i], clip.intrinsics)
        assert batch.captions[i] == clip.caption


def test_a_run_with_another_seed_sees_other_scenes() -> None:
    assert not torch.equal(take(make(), 1)[0].c2w, take(make(seed=make().seed + 1), 1)[0].c2w)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_walks_round_its_own_seeds(stream: str) -> None:
    quarter = 2**29
    seeds = make()._scene_seeds(stream, quarter - 1000, 2000)  # past the end of the quarter, wherever it began
    assert {seed // quarter for seed in seeds} == {STREAMS.index(stream)}
    assert len(set(seeds)) == len(seeds)


def test_starting_later_skips_and_changes_nothing(recorded: dict[int, list[RecordedClip]]) -> None:
    whole = take(make(recorded, 0.5), 3)
    for a, b in zip(take(make(recorded, 0.5), 2, start=1), whole[1:], strict=True):
        assert_equal(a, b)


def test_worker_processes_change_nothing(recorded: dict[int, list[RecordedClip]]) -> None:
    alone = take(make(recorded, 0.5), 3)
    with closing(make(recorded, 0.5, workers=1)) as source:
        for a, b in zip(take(source, 3), alone, strict=True):
            assert_equal(a, b)


def test_streams_and_splits_never_share_a_scene() -> None:
    seen = {
        (stream, split): take(make(split=split), 1, stream=stream)[0].c2w
        for stream in STREAMS
        for split in ("train", "validation", "test")
    }
    poses = list(seen.values())
    for i, a in enumerate(poses):
        assert not any(torch.equal(a, b) for b in poses[:i])


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_a_batch_holds_its_share_of_recorded_clips(
    share: float, count: int, recorded: dict[int, list[RecordedClip]]
) -> None:
    for batch in take(make(recorded, share), 2, size=4):
        assert batch.frames.shape == (4, 9, 3, H, W)
        assert sum(" frames, clip " in caption for caption in batch.captions) == count


def test_peers_together_have_the_batches_of_one_process(recorded: dict[int, list[RecordedClip]]) -> None:
    whole = take(make(), 2, start=1, size=4)
    parts = [take(make(peers=Peers(rank, 2)), 2, start=1) for rank in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([first.frames, second.frames]), batch.frames)
        assert [*first.captions, *second.captions] == batch.captions
    drawn = [take(make(recorded, 1.0, peers=Peers(rank, 2)), 3) for rank in (0, 1)]
    assert [batch.captions for batch in drawn[0]] != [batch.captions for batch in drawn[1]]


def test_without_recorded_clips_the_share_is_procedural() -> None:
    assert_equal(take(make(share=0.5), 1)[0], take(make(), 1)[0])


def test_frames_cameras_and_caption_of_a_recorded_clip_belong_together(recorded: dict[int, list[RecordedClip]]) -> None:
    """Windows are drawn from the shortest clips that are long enough."""
    starts = set()
    for batch in islice(make({17: recorded[17]}, 1.0).batches("world", 0, 2, 9), 10):
        for frames, c2w, intrinsics, caption in zip(
            batch.frames, batch.c2w, batch.intrinsics, batch.captions, strict=True
        ):
            clip = int(caption.rpartition(" ")[2])
            start = int(frames[0, 0, 0, 0]) - 20 * clip
            starts.add(start)
            values = 20.0 * clip + start + torch.arange(9)
            assert torch.equal(frames.float(), values[:, None, None, None].expand(9, 3, H, W))
            assert torch.equal(c2w[:, 0, 3], values)
            assert torch.equal(intrinsics, torch.full((9, 4), float(clip)))
    assert min(starts) == 0
    assert max(starts) == 8
    for batch in take(make(recorded, 1.0), 2):
        assert all(caption.startswith("9 frames") for caption in batch.captions)


def test_the_seed_decides_which_recorded_clips_come(recorded: dict[int, list[RecordedClip]]) -> None:
    first, other = (take(make(recorded, 1.0, seed=seed), 4) for seed in (1, 2))
    assert [b.captions for b in first] != [b.captions for b in other]


def test_video_for_the_codec_lies_between_minus_one_and_one() -> None:
    frames = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1).expand(1, 3, 3, 2, 2)
    before = frames.clone()
    video = to_video(frames)
    assert video.shape == (1, 3, 3, 2, 2)
    torch.testing.assert_close(video[0, 0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    assert torch.equal(frames, before)
