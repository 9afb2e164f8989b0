"""Recorded clips: what is written is read, and what is not complete is no clip."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sana_wm.data.recorded import read_clip, read_clips, write_clip
from sana_wm.errors import InputError
from sana_wm.worlds.clip import WorldClip

F, H, W = 9, 6, 8


def clip(name: str = "game/train/000001", seed: int = 0) -> WorldClip:
    g = torch.Generator().manual_seed(seed)
    return WorldClip(
        frames=torch.randint(0, 256, (F, 3, H, W), generator=g, dtype=torch.uint8),
        c2w=torch.randn(F, 4, 4, generator=g),
        intrinsics=torch.rand(F, 4, generator=g) * 100,
        caption="Ein grüner Gang — 緑の廊下",
        depth=None,
        name=name,
    )


def test_a_clip_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_clip(tmp_path / "a", clip())
    found = read_clip(tmp_path / "a")
    frames, c2w, intrinsics = found.window(0, F)
    assert frames.dtype == torch.uint8
    for ours, expected in ((frames, clip().frames), (c2w, clip().c2w), (intrinsics, clip().intrinsics)):
        assert torch.equal(ours, expected)
    assert (found.caption, found.name) == (clip().caption, clip().name)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_window_holds_the_frames_and_cameras_of_its_place(tmp_path: Path) -> None:
    write_clip(tmp_path / "a", clip())
    frames, c2w, intrinsics = read_clip(tmp_path / "a").window(3, 4)
    assert torch.equal(frames, clip().frames[3:7])
    assert torch.equal(c2w, clip().c2w[3:7])
    assert torch.equal(intrinsics, clip().intrinsics[3:7])


def test_frames_stay_on_disk_until_a_window_is_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "a", clip())
    found = read_clip(tmp_path / "a")
    assert isinstance(found.frames, np.memmap)
    frames, _, _ = found.window(0, 2)
    frames.zero_()  # a window is the caller's own
    assert torch.equal(found.window(0, 2)[0], clip().frames[:2])


def test_views_are_written_like_anything_else(tmp_path: Path) -> None:
    """Cameras cut out of larger tensors, and one camera expanded to all frames."""

    def every_second(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 0)[::2]

    whole = clip()
    odd = replace(
        whole,
        frames=every_second(whole.frames),
        c2w=every_second(whole.c2w),
        intrinsics=whole.intrinsics[:1].expand(F, 4),
    )
    write_clip(tmp_path / "a", odd)
    frames, c2w, intrinsics = read_clip(tmp_path / "a").window(0, F)
    assert torch.equal(frames, whole.frames)
    assert torch.equal(c2w, whole.c2w)
    assert torch.equal(intrinsics, whole.intrinsics[:1].expand(F, 4))


def test_writing_again_replaces_the_clip(tmp_path: Path) -> None:
    write_clip(tmp_path / "a", clip())
    write_clip(tmp_path / "a", clip("other", seed=1))
    assert read_clip(tmp_path / "a").name == "other"
    assert len(read_clips(tmp_path)) == 1


def test_clips_come_by_name_and_no_more_than_asked_for(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        write_clip(tmp_path / name, clip(name))
    assert [found.name for found in read_clips(tmp_path)] == ["a", "b", "c"]
    assert [found.name for found in read_clips(tmp_path, 2)] == ["a", "b"]
    assert read_clips(tmp_path / "nothing") == []


@pytest.mark.parametrize("files", [["frames.npy"], ["frames.npy", "cameras.safetensors"], None])
def test_what_an_interrupted_recording_leaves_is_no_clip(files: list[str] | None, tmp_path: Path) -> None:
    """Also when all files are there (None) and only the folder's last name was still missing."""
    write_clip(tmp_path / "b", clip("b"))
    write_clip(tmp_path / "whole", clip("a"))
    partial = tmp_path / ".a.partial"
    (tmp_path / "whole").rename(partial)
    for path in list(partial.iterdir()):
        if files is not None and path.name not in files:
            path.unlink()
    assert [found.name for found in read_clips(tmp_path)] == ["b"]
    write_clip(tmp_path / "a", clip("a"))
    assert [found.name for found in read_clips(tmp_path)] == ["a", "b"]
    assert not partial.exists()


def break_json(folder: Path) -> None:
    (folder / "clip.json").write_text("{")


def forget_caption(folder: Path) -> None:
    (folder / "clip.json").write_text(json.dumps({"name": "x"}))


def not_an_object(folder: Path) -> None:
    (folder / "clip.json").write_text("[1]")


def lose_frames(folder: Path) -> None:
    (folder / "frames.npy").unlink()


def break_frames(folder: Path) -> None:
    (folder / "frames.npy").write_bytes(b"no array")


def cut_frames(folder: Path) -> None:
    path = folder / "frames.npy"
    path.write_bytes(path.read_bytes()[:-10])


def objects(folder: Path) -> None:
    np.save(folder / "frames.npy", np.array([{}], dtype=object), allow_pickle=True)


def lose_cameras(folder: Path) -> None:
    (folder / "cameras.safetensors").unlink()


def break_cameras(folder: Path) -> None:
    (folder / "cameras.safetensors").write_bytes(b"not safetensors at all")


def lose_all(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "damage",
    [
        break_json,
        forget_caption,
        not_an_object,
        lose_frames,
        break_frames,
        cut_frames,
        objects,
        lose_cameras,
        break_cameras,
        lose_all,
    ],
)
def test_a_damaged_clip_is_named(damage: object, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_clip(folder, clip())
    damage(folder)  # type: ignore[operator]
    with pytest.raises(InputError, match=rf"{folder} is not a recorded clip: ."):
        read_clip(folder)


def test_cameras_that_do_not_fit_the_frames_are_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "a", replace(clip(), c2w=clip().c2w[:-1]))
    with pytest.raises(InputError, match=r"a is not a recorded clip: .*8.*9"):
        read_clip(tmp_path / "a")
