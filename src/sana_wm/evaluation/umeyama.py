"""Least-squares similarity between two point paths (spec 60-annotation.md sections 2.3 and 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sana_wm.errors import InputError

LEAST_SPREAD = 1e-3
"""Second singular value of centred points, as a share of the first, under which they count as one straight line."""
LEAST_REFIT = 3
"""Inliers below this many do not fix a rotation, so the first fit stands."""


@dataclass(frozen=True)
class Similarity:
    """y = scale * rotation @ x + translation; rotation (3,3) and translation (3,) float64."""

    scale: float
    rotation: Tensor
    translation: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """Points (...,3), moved; float64."""
        return self.scale * points.double() @ self.rotation.mT + self.translation

    def apply_to_poses(self, c2w: Tensor) -> Tensor:
        """Camera-to-world poses (...,4,4) with centres moved and axes turned; float64, still rigid."""
        moved = c2w.double().clone()
        moved[..., :3, :3] = self.rotation @ moved[..., :3, :3]
        moved[..., :3, 3] = self.apply(c2w[..., :3, 3])
        return moved


@dataclass(frozen=True)
class MetricScale:
    """A scale between two paths that gross outliers do not decide; see :func:`metric_scale`.

    Attributes:
        fit: similarity of the inliers; first_fit: of all points.
        residual: (n,) float64 distances after the first fit, in units of the second path.
        threshold: largest residual of an inlier; inlier: (n,) bool.
    """

    fit: Similarity
    first_fit: Similarity
    residual: Tensor
    threshold: float
    inlier: Tensor


def umeyama(src: Tensor, dst: Tensor, *, with_scale: bool = True) -> Similarity:
    """The similarity that maps `src` (n,3) onto `dst` (n,3) with least squared distance (spec 60 section 3.4).

    Always a proper rotation, also between mirrored paths. `with_scale=False` forces scale 1. On points along a straight
    line the scale is right and the rotation is one of many; ask :func:`straightness` first where the rotation matters.
    Raises :class:`InputError` for shapes that differ, fewer than 2 points, non-finite values or a `src` without extent.
    """
    x, y = _points(src, dst)
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - x_mean, y - y_mean
    variance = x.square().sum(dim=1).mean()
    if variance <= torch.finfo(torch.float64).eps * x_mean.square().sum().clamp_min(1e-300):
        raise InputError(f"all {len(x)} points of src are the same; a similarity needs points that differ.")
    U, D, Vh = torch.linalg.svd(y.mT @ x / len(x))
    signs = torch.ones_like(D)
    signs[2] = torch.sign(torch.linalg.det(U) * torch.linalg.det(Vh))  # no reflection
    rotation = U * signs @ Vh
    scale = float((D * signs).sum() / variance) if with_scale else 1.0
    return Similarity(scale, rotation, y_mean - scale * rotation @ x_mean)


def straightness(points: Tensor) -> float:
    """Second over first singular value of the centred points (n,3): 0 on a line or a point, 1 in a round cloud."""
    centred = points.double() - points.double().mean(dim=0)
    values = torch.linalg.svdvals(centred)
    return float(values[1] / values[0]) if len(values) > 1 and values[0] > 0 else 0.0


def metric_scale(pred: Tensor, gt: Tensor, percentile: float = 80.0) -> MetricScale:
    """The scale from predicted centres (n,3) to ground truth (n,3), by two fits (spec 60 section 2.3).

    The matches whose distance after a first fit is at most the given percentile (linear interpolation, inclusive) are
    fitted again, if at least three remain.
    """
    if not 0 < percentile <= 100:
        raise InputError(f"percentile is {percentile}; it must be above 0 and at most 100.")
    first = umeyama(pred, gt)
    residual = (first.apply(pred) - gt.double()).norm(dim=1)
    threshold = float(np.percentile(residual.cpu().numpy(), percentile))
    inlier = residual <= threshold
    fit = umeyama(pred[inlier], gt[inlier]) if int(inlier.sum()) >= LEAST_REFIT else first
    return MetricScale(fit, first, residual, threshold, inlier)


def _points(src: Tensor, dst: Tensor) -> tuple[Tensor, Tensor]:
    for name, points in (("src", src), ("dst", dst)):
        if points.ndim != 2 or points.shape[1] != 3 or len(points) < 2:
            raise InputError(f"{name} has the shape {tuple(points.shape)}; it must be (n, 3) with n at least 2.")
        if not torch.isfinite(points).all():
            raise InputError(f"{name} holds a value that is not finite; every coordinate must be a number.")
    if len(src) != len(dst):
        raise InputError(f"src holds {len(src)} points and dst {len(dst)}; they must be matched one to one.")
    return src.double(), dst.double()
