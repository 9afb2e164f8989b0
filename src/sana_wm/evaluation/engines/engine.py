"""What a pose engine takes and gives: frames of a video in, camera poses out (spec 61-benchmark.md section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

from sana_wm.errors import InputError, first_line

LEAST_SIDE = 32
"""A picture with a shorter side shows too little to find points in."""


@dataclass(frozen=True)
class Recovered:
    """The camera of a video as far as it could be recovered.

    Attributes:
        c2w: (n,4,4) float64 camera-to-world, OpenCV axes, one a frame; the identity where not valid.
        valid: (n,) bool, False where no pose was found.
    """

    c2w: Tensor
    valid: Tensor

    @property
    def registered(self) -> float:
        """Share of the frames that have a pose."""
        return float(self.valid.double().mean()) if len(self.valid) else 0.0

    @classmethod
    def nothing(cls, count: int) -> Recovered:
        """No pose for any of `count` frames."""
        return cls(torch.eye(4, dtype=torch.float64).repeat(count, 1, 1), torch.zeros(count, dtype=torch.bool))


@dataclass(frozen=True)
class TrueViews:
    """What an engine that knows the world may use: the true render of the same sampled times, at any size.

    Attributes:
        frames: (n,3,H,W) uint8. depth: (n,H,W) float32 planar metres, inf where there is sky.
        c2w: (n,4,4) camera-to-world in metres. intrinsics: (n,4) fx, fy, cx, cy in pixels of these frames.
    """

    frames: Tensor
    depth: Tensor
    c2w: Tensor
    intrinsics: Tensor


class PoseEngine(Protocol):
    """Finds the camera of every frame of a video."""

    name: str

    def estimate(self, frames: Tensor, intrinsics: Tensor | None) -> Recovered:
        """Poses of frames (n,3,H,W) uint8 with intrinsics (n,4) in their pixels, None where they are not known.

        The frame of reference and the unit are the engine's own. A video in which nothing can be found gives no valid
        pose, never an error. Raises :class:`InputError` for frames or intrinsics that are no such thing.
        """
        ...


def check_video(frames: Tensor, intrinsics: Tensor | None) -> None:
    """Raise :class:`InputError` unless frames are (n,3,H,W) uint8 and intrinsics (n,4), positive and finite."""
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise InputError(f"frames are {_described(frames)}; they must be (n, 3, H, W) uint8.")
    if len(frames) < 2 or min(frames.shape[2:]) < LEAST_SIDE:
        raise InputError(
            f"frames are {_described(frames)}; at least 2 frames of at least {LEAST_SIDE} pixels a side are needed."
        )
    if intrinsics is not None:
        check_intrinsics(intrinsics, len(frames), "intrinsics")


def check_intrinsics(intrinsics: Tensor, count: int, name: str) -> None:
    """Raise :class:`InputError` unless intrinsics are (count,4), finite, with positive focal lengths."""
    if intrinsics.shape != (count, 4) or not intrinsics.dtype.is_floating_point:
        raise InputError(f"{name} are {_described(intrinsics)}; they must be ({count}, 4) floating point.")
    if not torch.isfinite(intrinsics).all() or bool((intrinsics[:, :2] <= 0).any()):
        raise InputError(f"{name} hold a value that is not finite, or a focal length that is not positive.")


def load_library(library: str, engine: str, install: str) -> Any:
    """The module `library`; :class:`InputError` says what to install where it is missing."""
    try:
        return import_module(library)
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch or numpy
        raise InputError(
            f"the pose engine {engine!r} needs the package {library}, which does not load ({first_line(error)}); "
            f"{install}."
        ) from error


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
