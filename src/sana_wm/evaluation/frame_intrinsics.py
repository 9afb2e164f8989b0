"""A lens of its own for every frame: dense reprojection, its Jacobians, Gauss-Newton (spec 60-annotation.md 3.3).

An edge (i, j) takes every pixel of frame i, with its disparity 1/z, into frame j. Pixels are 0..w-1 across and 0..h-1
down; intrinsics (fx, fy, cx, cy) are in those pixels. Everything in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.poses import check_poses, compose, inverse_rigid

DAMPING = 1e-6


@dataclass(frozen=True)
class Reprojection:
    """Where the pixels of E edges land, and how that depends on the two lenses; all float64.

    Attributes:
        coords: (E,h,w,2) pixel coordinates x, y in the target frame.
        jac_source, jac_target: (E,h,w,2,4) derivatives by fx, fy, cx, cy of the source and of the target frame.
    """

    coords: Tensor
    jac_source: Tensor
    jac_target: Tensor


def reproject(intrinsics: Tensor, w2c: Tensor, disparity: Tensor, edges: Tensor) -> Reprojection:
    """Reproject along edges (E,2) of (source, target) frames.

    intrinsics: (N,4). w2c: (N,4,4) world-to-camera. disparity: (N,h,w), 1/z, 0 for infinitely far.
    Raises :class:`InputError` for shapes that do not fit or an edge to a frame that does not exist.
    """
    _check(intrinsics, w2c, disparity, edges)
    source, target = edges.long().unbind(dim=1)
    fx, fy, cx, cy = intrinsics.double()[source, :, None, None].unbind(dim=1)
    gx, gy, kx, ky = intrinsics.double()[target, :, None, None].unbind(dim=1)
    motion = compose(w2c.double()[target], inverse_rigid(w2c.double()[source]))
    R = motion[:, None, None, :3, :3]
    d = disparity.double()[source]
    h, w = disparity.shape[1:]
    v, u = torch.meshgrid(
        torch.arange(h, dtype=torch.float64, device=d.device),
        torch.arange(w, dtype=torch.float64, device=d.device),
        indexing="ij",
    )
    x1, x2 = (u - cx) / fx, (v - cy) / fy
    X = torch.stack((x1, x2, torch.ones_like(x1)), dim=-1)
    Y = (R @ X[..., None])[..., 0] + motion[:, None, None, :3, 3] * d[..., None]
    y1, y2, y3 = Y.unbind(dim=-1)
    zero, one = torch.zeros_like(y1), torch.ones_like(y1)
    coords = torch.stack((gx * y1 / y3 + kx, gy * y2 / y3 + ky), dim=-1)
    jac_target = torch.stack(
        (torch.stack((y1 / y3, zero, one, zero), dim=-1), torch.stack((zero, y2 / y3, zero, one), dim=-1)), dim=-2
    )
    projection = torch.stack(
        (
            torch.stack((gx / y3, zero, -gx * y1 / y3**2), dim=-1),
            torch.stack((zero, gy / y3, -gy * y2 / y3**2), dim=-1),
        ),
        dim=-2,
    )
    ray = X.new_zeros((*x1.shape, 3, 4))  # derivative of X; its third row stays 0
    ray[..., 0, 0], ray[..., 1, 1] = -x1 / fx, -x2 / fy
    ray[..., 0, 2], ray[..., 1, 3] = -1.0 / fx, -1.0 / fy
    return Reprojection(coords, projection @ R @ ray, jac_target)


def gauss_newton_step(
    intrinsics: Tensor, w2c: Tensor, disparity: Tensor, edges: Tensor, target: Tensor, weight: Tensor
) -> Tensor:
    """Intrinsics (N,4) float64 after one damped Gauss-Newton step on the weighted reprojection error alone.

    target, weight: (E,h,w,2) wanted coordinates and weights of the squared errors. Poses and disparities stay. The
    normal matrix H becomes H + 1e-6 diag(H) + 1e-6 I, so a frame without an edge keeps its lens. So does one whose step
    would turn a focal length negative.
    """
    seen = reproject(intrinsics, w2c, disparity, edges)
    for name, values in (("target", target), ("weight", weight)):
        if values.shape != seen.coords.shape:
            raise InputError(f"{name} has the shape {tuple(values.shape)}; it must be {tuple(seen.coords.shape)}.")
    N = len(intrinsics)
    H = torch.zeros(N, N, 4, 4, dtype=torch.float64, device=seen.coords.device)
    g = torch.zeros(N, 4, dtype=torch.float64, device=seen.coords.device)
    weight = weight.double().flatten(1)
    used = weight != 0  # a pixel behind the camera has no finite coordinates, and no weight
    error = torch.where(used, (target.double() - seen.coords).flatten(1), 0.0)
    jacobians = [torch.where(used[..., None], J.flatten(1, 3), 0.0) for J in (seen.jac_source, seen.jac_target)]
    sides = list(zip(edges.long().unbind(dim=1), jacobians, strict=True))
    for frame, J in sides:
        g.index_add_(0, frame, ((weight * error)[..., None] * J).sum(dim=1))
        for other, J_other in sides:
            H.index_put_((frame, other), (weight[..., None] * J).mT @ J_other, accumulate=True)
    matrix = H.transpose(1, 2).reshape(4 * N, 4 * N)
    matrix = matrix + torch.diag(DAMPING * matrix.diagonal() + DAMPING)
    stepped = intrinsics.double() + torch.linalg.solve(matrix, g.flatten()).view(N, 4)
    return torch.where((stepped[:, :2] > 0).all(dim=1, keepdim=True), stepped, intrinsics.double())


def _check(intrinsics: Tensor, w2c: Tensor, disparity: Tensor, edges: Tensor) -> None:
    N = len(intrinsics)
    if intrinsics.ndim != 2 or intrinsics.shape[1] != 4 or not (intrinsics[:, :2] > 0).all():
        raise InputError(
            f"intrinsics has the shape {tuple(intrinsics.shape)}; it must be (N, 4) with focal lengths above 0."
        )
    check_poses(w2c, "w2c")
    if len(w2c) != N or disparity.ndim != 3 or len(disparity) != N:
        raise InputError(
            f"there are {N} intrinsics, {len(w2c)} poses and disparity of shape {tuple(disparity.shape)}; all must be "
            "of the same N frames, disparity (N, h, w)."
        )
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.is_floating_point:
        raise InputError(f"edges is {edges.dtype} of shape {tuple(edges.shape)}; it must be whole numbers (E, 2).")
    bad = (edges < 0) | (edges >= N)
    if bad.any():
        raise InputError(f"an edge names frame {int(edges[bad][0])}; the frames are 0 to {N - 1}.")
