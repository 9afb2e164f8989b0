"""Clips recorded to disk: raw frames that can be read by window, cameras, a caption.

One folder a clip: `frames.npy` (F, 3, H, W) uint8, read through a memory map; `cameras.safetensors` with `c2w`
(F, 4, 4) and `intrinsics` (F, 4); `clip.json` with the caption. A folder gets its name when all of it is written; until
then the name begins with a dot, and it is not a clip.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.worlds.clip import WorldClip


def write_clip(directory: Path, clip: WorldClip) -> None:
    """Record `clip` as the folder `directory`."""
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "frames.npy", clip.frames.cpu().numpy(), allow_pickle=False)
    cameras = {"c2w": clip.c2w, "intrinsics": clip.intrinsics}
    save_file({name: x.cpu().contiguous() for name, x in cameras.items()}, str(partial / "cameras.safetensors"))
    (partial / "clip.json").write_text(json.dumps({"caption": clip.caption, "name": clip.name}), encoding="utf-8")
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


@dataclass(frozen=True)
class RecordedClip:
    """One clip on disk. `frames` stays a memory map: only the window that is read comes into memory."""

    frames: np.ndarray
    c2w: Tensor
    intrinsics: Tensor
    caption: str
    name: str

    def window(self, start: int, num_frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (F, 3, H, W) uint8, c2w and intrinsics of `num_frames` frames from `start`."""
        span = slice(start, start + num_frames)
        # A copy: a tensor over the read-only map would end the process when someone writes into it.
        return torch.from_numpy(np.array(self.frames[span])), self.c2w[span], self.intrinsics[span]


def read_clip(directory: Path) -> RecordedClip:
    """Open a recorded clip.

    Raises:
        InputError: the folder is not a complete clip.
    """
    try:
        described = json.loads((directory / "clip.json").read_text(encoding="utf-8"))
        frames = np.load(directory / "frames.npy", mmap_mode="r", allow_pickle=False)
        cameras = load_file(str(directory / "cameras.safetensors"))
        clip = RecordedClip(frames, cameras["c2w"], cameras["intrinsics"], described["caption"], described["name"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{directory} is not a recorded clip: {error}") from error
    if not len(clip.frames) == len(clip.c2w) == len(clip.intrinsics):
        counts = f"{len(clip.c2w)} poses and {len(clip.intrinsics)} intrinsics for {len(clip.frames)} frames"
        raise InputError(f"{directory} is not a recorded clip: it has {counts}")
    return clip


def read_clips(directory: Path, limit: int | None = None) -> list[RecordedClip]:
    """The complete clips in `directory`, by name, at most `limit` of them."""
    folders = sorted(path.parent for path in directory.glob("[!.]*/clip.json"))  # a dot: not finished
    return [read_clip(folder) for folder in folders[:limit]]
