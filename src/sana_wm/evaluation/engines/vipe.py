"""NVIDIA ViPE (package `nvidia-vipe`), run as the program it is, for users who have it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.engines.engine import Recovered, check_video

FPS = 16


class Vipe:
    """Poses from ViPE's SLAM, in its own frame and scale; it estimates the lens itself.

    Args:
        command: the program.
    """

    name = "vipe"

    def __init__(self, command: str = "vipe") -> None:
        found = shutil.which(command)
        if found is None:
            raise InputError(
                f"the pose engine 'vipe' needs the program {command!r}, which is not there; install nvidia-vipe, or "
                "give its path as the setting command."
            )
        self.command = found

    def estimate(self, frames: Tensor, intrinsics: Tensor | None) -> Recovered:
        """Raises :class:`InputError` if the program fails."""
        from sana_wm.engine.mp4 import write_mp4

        check_video(frames, intrinsics)
        with tempfile.TemporaryDirectory(prefix="sana-wm-poses-") as folder:
            video, out = Path(folder) / "video.mp4", Path(folder) / "out"
            write_mp4(video, frames.permute(0, 2, 3, 1).cpu().numpy(), FPS)
            done = subprocess.run(
                [self.command, "infer", str(video), "--output", str(out)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
                raise InputError(f"vipe failed with exit status {done.returncode}: {last}")
            return read_poses(out / "pose" / "video.npz", len(frames))


def read_poses(path: Path, count: int) -> Recovered:
    """Poses from ViPE's file: data (m,4,4) camera-to-world of the frames inds (m,).

    Raises:
        InputError: the file is missing or holds something else.
    """
    if not path.is_file():
        raise InputError(f"vipe left no poses in {path}.")
    with np.load(path, allow_pickle=False) as file:
        missing = {"data", "inds"} - set(file.files)
        if missing:
            raise InputError(f"{path} has no array {sorted(missing)[0]!r}; it must hold data and inds.")
        data, inds = torch.from_numpy(file["data"]).double(), torch.from_numpy(file["inds"]).long()
    if data.shape != (len(inds), 4, 4) or bool(((inds < 0) | (inds >= count)).any()):
        raise InputError(
            f"{path} holds data {tuple(data.shape)} for {len(inds)} of {count} frames; one 4x4 pose each is needed."
        )
    found = Recovered.nothing(count)
    good = torch.isfinite(data).flatten(1).all(1)
    found.c2w[inds[good]], found.valid[inds[good]] = data[good], True
    return found
