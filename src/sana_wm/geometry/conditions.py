"""From poses and intrinsics to the two camera inputs of the transformer (spec 30 sections 3.1 to 3.4 and 3.9).

Latent frame k stands for raw frame `stride * k`, the last of the raw frames it covers. The first input,
`camera_conditions`, holds that frame's camera; the second, `chunk_plucker`, the ray maps of a window of `stride` raw
frames. All float32, no loop over frames; leading batch dimensions and any device work, so the training loop uses the
same functions.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.poses import relative_to_first, rigid
from sana_wm.geometry.rays import plucker_map


def num_latent_frames(num_frames: int, stride: int = 8) -> int:
    """Latent frames of a clip of `num_frames` raw frames: floor((F - 1) / stride) + 1."""
    if num_frames < 1 or stride < 1:
        raise InputError(f"{num_frames} frames with temporal stride {stride}: both must be at least 1.")
    return (num_frames - 1) // stride + 1


def latent_frame_indices(num_frames: int, stride: int = 8) -> Tensor:
    """Raw frame that each latent frame stands for; (T,) int64. Trailing raw frames that fill no stride are left out."""
    return torch.arange(num_latent_frames(num_frames, stride)) * stride


def plucker_windows(num_frames: int, stride: int = 8) -> Tensor:
    """Raw frames whose ray maps each latent frame gets; (T,stride) int64.

    Window k ends at frame `stride * k`, but window 0 holds frames 0 ... stride-1: the first latent frame looks ahead.
    Beyond the last frame of a short clip, that frame is repeated.
    """
    starts = (latent_frame_indices(num_frames, stride) - (stride - 1)).clamp_min(0)
    return (starts[:, None] + torch.arange(stride)).clamp_max(num_frames - 1)


def camera_conditions(
    c2w: Tensor, intrinsics: Tensor, target_hw: tuple[int, int], latent_hw: tuple[int, int], temporal_stride: int = 8
) -> Tensor:
    """(...,T,20): row-major camera-to-world matrix, then fx, fy, cx, cy in latent pixels, of each latent frame.

    c2w (...,F,4,4) re-based to the first frame; intrinsics (...,F,4) in pixels of the `target_hw` image.
    """
    num_frames = _num_frames(c2w, intrinsics)
    rows = latent_frame_indices(num_frames, temporal_stride)
    return _conditions(c2w, _latent_intrinsics(intrinsics, target_hw, latent_hw), rows)


def chunk_plucker(
    c2w: Tensor, intrinsics: Tensor, target_hw: tuple[int, int], latent_hw: tuple[int, int], temporal_stride: int = 8
) -> Tensor:
    """(...,6*stride,T,H,W): direction and moment of every latent pixel's ray for each frame of the window, frame-major.

    Arguments as for :func:`camera_conditions`.
    """
    num_frames = _num_frames(c2w, intrinsics)
    windows = plucker_windows(num_frames, temporal_stride)
    return _plucker(c2w, _latent_intrinsics(intrinsics, target_hw, latent_hw), windows, latent_hw)


def next_conditions(
    c2w: Tensor, intrinsics: Tensor, target_hw: tuple[int, int], latent_hw: tuple[int, int], temporal_stride: int = 8
) -> tuple[Tensor, Tensor]:
    """Both inputs, (...,n,20) and (...,6*stride,n,H,W), of the n latent frames that follow raw frame 0 of `c2w`.

    c2w (...,stride*n+1,4,4): the last pose of the chunk before, then the new ones, all relative to the first frame of
    the whole video; intrinsics (...,stride*n+1,4). The same numbers as those of the whole path cut to these frames.
    """
    arguments = (c2w, intrinsics, target_hw, latent_hw, temporal_stride)
    return camera_conditions(*arguments)[..., 1:, :], chunk_plucker(*arguments)[..., 1:, :, :]


def told_from(origin: Tensor, camera_conditions: Tensor, chunk_plucker: Tensor) -> tuple[Tensor, Tensor]:
    """Both inputs, (B,n,20) and (B,6*stride,n,H,W), with the origin (B,3) of the world where they were told from."""
    rows = camera_conditions.clone()
    rows[..., 3:12:4] -= origin[:, None]
    direction, moment = chunk_plucker.unflatten(1, (-1, 2, 3)).unbind(2)
    # The moment is the place x the direction.
    moment = moment - torch.linalg.cross(origin[:, None, :, None, None, None].expand_as(direction), direction, dim=2)
    return rows, torch.stack((direction, moment), 2).flatten(1, 3)


def training_conditions(
    c2w: Tensor | None,
    intrinsics: Tensor | None,
    clip_wh: tuple[int, int],
    latent_thw: tuple[int, int, int],
    *,
    temporal_stride: int = 8,
    metric_scale: float = 1.0,
    strategy: Literal["last", "first"] = "last",
) -> tuple[Tensor, Tensor]:
    """Both inputs, (...,T,20) and (...,6*stride,T,H,W), of a stored training clip with raw cameras.

    c2w (...,F,4,4) in the clip's own world, translations in units of `metric_scale` metres; intrinsics (...,F,4) in
    pixels of the stored clip of size `clip_wh`. Frames beyond the `latent_thw` latent frames are cut; where there are
    too few, the last camera is repeated. None for either: a still camera whose focal lengths equal the latent size.
    Strategy "first" takes the first raw frame that a latent frame covers instead of the last.
    """
    T, H, W = latent_thw
    wanted = temporal_stride * (T - 1) + 1
    if c2w is None or intrinsics is None:
        c2w = torch.eye(4).expand(wanted, 4, 4)
        intrinsics, clip_wh = torch.tensor([W, H, W / 2, H / 2]).expand(wanted, 4), (W, H)
    if not (math.isfinite(metric_scale) and metric_scale > 0):
        raise InputError(f"metric scale is {metric_scale}; it must be a finite number above 0.")
    _num_frames(c2w, intrinsics)
    c2w, intrinsics = c2w[..., :wanted, :, :].to(torch.float32), intrinsics[..., :wanted, :]
    based = relative_to_first(rigid(c2w[..., :3, :3], c2w[..., :3, 3] * metric_scale))
    latent_intrinsics = _latent_intrinsics(intrinsics, (clip_wh[1], clip_wh[0]), (H, W))

    rows = latent_frame_indices(based.shape[-3], temporal_stride)
    windows = plucker_windows(based.shape[-3], temporal_stride)
    kept = torch.arange(T).clamp_max(len(rows) - 1)
    if strategy == "first":
        rows = windows[:, 0]
    elif strategy != "last":
        raise InputError(f"camera sampling strategy {strategy!r} is unknown; use 'last' or 'first'.")
    return _conditions(based, latent_intrinsics, rows[kept]), _plucker(based, latent_intrinsics, windows[kept], (H, W))


def _num_frames(c2w: Tensor, intrinsics: Tensor) -> int:
    if c2w.shape[-2:] != (4, 4) or c2w.ndim < 3 or intrinsics.shape != (*c2w.shape[:-2], 4):
        raise InputError(
            f"c2w {tuple(c2w.shape)} and intrinsics {tuple(intrinsics.shape)} do not match; "
            "they must be (..., frames, 4, 4) and (..., frames, 4) with the same leading sizes."
        )
    return c2w.shape[-3]


def _latent_intrinsics(intrinsics: Tensor, target_hw: tuple[int, int], latent_hw: tuple[int, int]) -> Tensor:
    sx, sy = latent_hw[1] / target_hw[1], latent_hw[0] / target_hw[0]
    fx, fy, cx, cy = intrinsics.to(torch.float32).unbind(-1)
    return torch.stack((fx * sx, fy * sy, cx * sx, cy * sy), dim=-1)


def _conditions(c2w: Tensor, latent_intrinsics: Tensor, rows: Tensor) -> Tensor:
    rows = rows.to(c2w.device)
    poses = c2w.to(torch.float32).index_select(-3, rows).flatten(-2)
    return torch.cat((poses, latent_intrinsics.index_select(-2, rows)), dim=-1)


def _plucker(c2w: Tensor, latent_intrinsics: Tensor, windows: Tensor, latent_hw: tuple[int, int]) -> Tensor:
    rows = windows.flatten().to(c2w.device)
    maps = plucker_map(
        c2w.to(torch.float32).index_select(-3, rows), latent_intrinsics.index_select(-2, rows), *latent_hw
    )
    # (..., T*S, 6, H, W) -> (..., S, 6, T, H, W) -> (..., S*6, T, H, W)
    return maps.unflatten(-4, windows.shape).movedim(-5, -3).flatten(-5, -4)
