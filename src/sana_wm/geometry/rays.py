"""Rays of latent pixels: directions, Plücker maps, UCPE ray frames (spec 30 sections 3.4, 3.5; spec 10 section 7).

Intrinsics here are in latent pixels. The ray of a pixel goes through its integer coordinates (top-left corner, no +
0.5): the models were trained that way. Products are written as sums of float32 terms, which autocast and TF32 leave
alone; everything is differentiable and batched.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.geometry.poses import inverse_rigid, rigid


def ray_directions(intrinsics: Tensor, H: int, W: int) -> Tensor:
    """Camera-space directions ((x - cx) / fx, (y - cy) / fy, 1), not normalised; (...,4) -> (...,H,W,3)."""
    fx, fy, cx, cy = intrinsics[..., None, None, :].unbind(-1)
    y = torch.arange(H, dtype=intrinsics.dtype, device=intrinsics.device)[:, None]
    x = torch.arange(W, dtype=intrinsics.dtype, device=intrinsics.device)[None, :]
    u, v = torch.broadcast_tensors((x - cx) / fx, (y - cy) / fy)
    return torch.stack((u, v, torch.ones_like(u)), dim=-1)


def plucker_map(c2w: Tensor, intrinsics: Tensor, H: int, W: int) -> Tensor:
    """Unit world direction d and moment t x d of every ray; (...,4,4) and (...,4) -> (...,6,H,W), direction first."""
    direction = _rotate(c2w, ray_directions(intrinsics, H, W))
    direction = direction / direction.norm(dim=-1, keepdim=True)
    centre = c2w[..., None, None, :3, 3].expand_as(direction)
    return torch.cat((direction, torch.linalg.cross(centre, direction)), dim=-1).movedim(-1, -3)


def ray_from_world(
    camera_conditions: Tensor, H: int, W: int, camera_dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """UCPE ray frames P (ray <- world) and their inverses, each (B,N,4,4) float32, N = T*H*W in (t, y, x) order.

    `camera_conditions` is (B,T,20): 16 numbers of the camera-to-world matrix, then intrinsics in latent pixels. The z
    axis of a frame is the ray, its x axis the camera's y axis crossed with it. `camera_dtype=torch.bfloat16` rounds
    the cameras first, as the release does.
    """
    cameras = camera_conditions.to(camera_dtype).to(torch.float32)
    c2w, intrinsics = cameras[..., :16].unflatten(-1, (4, 4)), cameras[..., 16:]
    z = _normalize(_rotate(c2w, _normalize(ray_directions(intrinsics, H, W))))
    down = c2w[..., None, None, :3, 1].expand_as(z)
    x = _normalize(torch.linalg.cross(down, z))
    y = _normalize(torch.linalg.cross(z, x))
    rotation = torch.stack((x, y, z), dim=-2)
    centre = c2w[..., None, None, None, :3, 3]
    from_world = rigid(rotation, -(rotation * centre).sum(-1)).flatten(1, 3)
    return from_world, inverse_rigid(from_world)


def _rotate(c2w: Tensor, vectors: Tensor) -> Tensor:
    """R v for poses (...,4,4) and vectors (...,H,W,3)."""
    columns = c2w[..., None, None, :3, :3].unbind(-1)
    return sum((column * vectors[..., i, None] for i, column in enumerate(columns)), start=torch.zeros_like(vectors))


def _normalize(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6)
