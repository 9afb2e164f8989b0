"""8-bit frames and codec numbers are two writings of the same picture."""

from __future__ import annotations

import pytest
import torch

from sana_wm.engine.pixels import to_frames, to_levels, to_video


def test_every_level_survives_the_way_there_and_back() -> None:
    frames = torch.arange(256, dtype=torch.uint8).view(1, 2, 1, 8, 16).expand(-1, -1, 3, -1, -1)
    video = to_video(frames)
    assert video.shape == (1, 3, 2, 8, 16)
    assert (video.min(), video.max()) == (-1, 1)
    assert torch.equal(to_levels(video).transpose(1, 2), frames)


def test_levels_are_rounded_and_cut_off_in_any_precision() -> None:
    found = to_levels(torch.tensor([-3.0, -1.0, 0.6 / 127.5 - 1, 0.4 / 127.5 - 1, 1.0, 2.0]))
    assert found.tolist() == [0, 0, 1, 0, 255, 255]
    assert to_levels(torch.tensor([1.0, -1.0], dtype=torch.bfloat16)).tolist() == [255, 0]


def test_frames_are_one_after_another_in_memory() -> None:
    levels = torch.randint(256, (1, 5, 3, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames = to_frames(to_video(levels)[0])
    assert frames.shape == (5, 4, 6, 3)
    assert frames.flags.c_contiguous
    assert frames.tobytes() == levels[0].permute(0, 2, 3, 1).numpy().tobytes()


@pytest.mark.gpu
def test_a_gpu_gives_the_same_frames_in_ordinary_memory() -> None:
    video = 2.4 * torch.rand(3, 5, 4, 6, generator=torch.Generator().manual_seed(0)) - 1.2
    frames = to_frames(video.cuda())
    assert frames.tobytes() == to_frames(video).tobytes()
    assert frames.flags.c_contiguous
    assert frames.flags.owndata
    assert not torch.from_numpy(frames).is_pinned()
