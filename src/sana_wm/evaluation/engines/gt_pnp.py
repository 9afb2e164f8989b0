"""Poses of a video of a world whose first frame is known with its depth: followed corners, PnP, bundle adjustment.

Corners of the true first frame get their depth from it and are followed through the video. Every picture's pose comes
from those whose place is known (PnP in RANSAC, without a first guess). Corners that appear later lie somewhere on a ray
until enough poses have seen them; then they carry on where the first frame has left the view. At the end all poses and
places are adjusted together. Nothing of the true path is used but its first pose, so the poses are the video's own, in
metres and in the frame of the true world, and turning on the spot is no exception.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.engines.engine import Recovered, TrueViews, check_video, load_library
from sana_wm.evaluation.engines.pictures import Floats, Pictures, grey_pictures, luma, scaled_intrinsics, stretched
from sana_wm.evaluation.engines.tracks import Tracks, follow_corners
from sana_wm.evaluation.engines.walk import Walk

INSTALL = "pip install 'sana-wm[evaluation]'"
FLAT = 1.05
"""Neighbouring depths that differ by more than this factor lie on both sides of an edge; the nearer one holds, whose
outline the corner is."""


class GtPnp:
    """See the module's docstring.

    Args:
        truth: the first of its views is what the video starts with.
    """

    name = "gt-pnp"

    def __init__(self, truth: TrueViews) -> None:
        count = len(truth.frames)
        if truth.depth.shape != (count, *truth.frames.shape[2:]) or truth.c2w.shape != (count, 4, 4) or count < 1:
            raise InputError(
                f"truth holds depth {tuple(truth.depth.shape)} and poses {tuple(truth.c2w.shape)} for frames "
                f"{tuple(truth.frames.shape)}; every frame needs a depth of its size and a 4x4 pose."
            )
        self.truth = truth
        self.cv2 = load_library("cv2", self.name, INSTALL)
        load_library("scipy", self.name, INSTALL)
        # By themselves the libraries of every worker would take all cores.
        self.cv2.setNumThreads(torch.get_num_threads())
        load_library("threadpoolctl", self.name, INSTALL).threadpool_limits(torch.get_num_threads(), user_api="blas")

    def estimate(self, frames: Tensor, intrinsics: Tensor | None) -> Recovered:
        """Poses in the true world; without intrinsics, those of the true views hold for the whole picture."""
        check_video(frames, intrinsics)
        video = grey_pictures(frames, self.cv2)
        lens = scaled_intrinsics(self._lens(frames) if intrinsics is None else intrinsics, video.scale)
        lens = np.concatenate([lens[:1], lens])  # picture 0 is the true first frame, seen through the video's lens
        tracks = follow_corners([self._first_picture(video, lens[0]), *video.grey], self.cv2)
        walk = Walk(tracks, lens, self.cv2)
        walk.begin(self.truth.c2w[0].double().numpy(), self._first_depths(tracks, lens[0]))
        for picture in range(1, len(lens)):
            walk.step(picture)
        cameras = walk.finish()
        found = Recovered.nothing(len(frames))
        known = cameras.known[1:]
        found.valid[:] = torch.from_numpy(known)
        found.c2w[known, :3, :3] = torch.from_numpy(cameras.rotation[1:][known])
        found.c2w[known, :3, 3] = torch.from_numpy(cameras.centre[1:][known])
        return found

    def _lens(self, frames: Tensor) -> Tensor:
        ratio = [have / had for have, had in zip(frames.shape[2:], self.truth.frames.shape[2:], strict=True)]
        scaled = scaled_intrinsics(self.truth.intrinsics[:1], (ratio[1], ratio[0]))
        return torch.from_numpy(scaled).expand(len(frames), 4)

    def _to_video(self, lens: Floats) -> tuple[Floats, Floats]:
        """Factor and offset (2,) that take pixels of the true frame to pixels of the video's pictures."""
        true = self.truth.intrinsics[0].double().numpy()
        factor: Floats = lens[:2] / true[:2]
        return factor, lens[2:] - factor * true[2:]

    def _first_picture(self, video: Pictures, lens: Floats) -> NDArray[np.uint8]:
        """The true first frame as the video would show it."""
        (a, c), (b, d) = self._to_video(lens)
        height, width = video.size
        raw = self.cv2.warpAffine(
            luma(self.truth.frames[0]), np.array([[a, 0, b], [0, c, d]]), (width, height),
            flags=self.cv2.INTER_LINEAR, borderMode=self.cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return stretched(raw, video.black, video.white)

    def _first_depths(self, tracks: Tracks, lens: Floats) -> Floats:
        """Depth of every corner of picture 0; infinite in the sky. Inverse depths of a plane are linear in pixels."""
        factor, offset = self._to_video(lens)
        xy = (tracks.xy[tracks.at(0)] - offset) / factor
        inverse = 1 / self.truth.depth[0].double().numpy()
        height, width = inverse.shape
        left, top = np.floor(xy).astype(int).clip(0, [width - 2, height - 2]).T
        four = np.stack([inverse[top + dy, left + dx] for dy in (0, 1) for dx in (0, 1)])
        x, y = (xy - np.stack([left, top], axis=1)).clip(0, 1).T
        on_plane = (np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y]) * four).sum(0)
        near, far = four.max(0), four.min(0)
        chosen = np.where(near < FLAT * far, on_plane, near)
        return np.divide(1.0, chosen, out=np.full_like(chosen, np.inf), where=chosen > 0)
