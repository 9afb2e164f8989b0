"""Cameras and points that explain where corners were seen, all at once (bundle adjustment).

A point lies on the ray through the corner in the picture where it was first seen with a known camera (its host), at an
inverse depth; so one number a point is unknown, and a point at infinity is no exception.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sana_wm.evaluation.engines.pictures import Floats
from sana_wm.evaluation.engines.tracks import Ints

ROBUST_PIXELS = 1.0
"""Errors beyond this count less and less (Cauchy's loss): corners on edges slide, and made-up scenes are not rigid."""
LEAST_INVERSE_DEPTH = 1e-4


@dataclass(frozen=True)
class Cameras:
    """Cameras of n pictures: rotation (n,3,3) and centre (n,3) camera-to-world, intrinsics (n,4), known (n,) bool."""

    rotation: Floats
    centre: Floats
    intrinsics: Floats
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Points:
    """k points.

    Attributes:
        host: (k,) picture on whose ray the point lies, -1 where there is none yet.
        ray: (k,3) that ray in the camera of the host, z = 1. inverse_depth: (k,) 1/z there.
        prior, sigma: (k,) what was known of the inverse depth beforehand, and how well.
    """

    host: Ints
    ray: Floats
    inverse_depth: Floats
    prior: Floats
    sigma: Floats


@dataclass(frozen=True)
class Sightings:
    """m sightings: picture (m,), point (m,), xy (m,2) pixels."""

    picture: Ints
    point: Ints
    xy: Floats

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Sightings:
        return Sightings(self.picture[chosen], self.point[chosen], self.xy[chosen])


@dataclass(frozen=True)
class Projection:
    """How m sightings should look, and how that changes.

    Attributes:
        error: (m,2) pixels, infinite behind the camera. in_front: (m,) bool.
        by_host, by_picture: (m,2,6) change by a small turn (in the camera's axes) and a shift (in the world) of either
        camera. by_depth: (m,2) change by the inverse depth.
    """

    error: Floats
    in_front: NDArray[np.bool_]
    by_host: Floats
    by_picture: Floats
    by_depth: Floats


def project(cameras: Cameras, points: Points, seen: Sightings) -> Projection:
    """Compare sightings with where the points should be seen."""
    host, here = points.host[seen.point], seen.picture
    turn_host, turn = cameras.rotation[host], cameras.rotation[here].transpose(0, 2, 1)
    baseline = cameras.centre[host] - cameras.centre[here]
    ray, depth = points.ray[seen.point], points.inverse_depth[seen.point]
    # the point in the camera, times its inverse depth in the host: it stays finite for a point at infinity
    y = _times(turn, _times(turn_host, ray) + depth[:, None] * baseline)
    in_front = y[:, 2] > 1e-3
    z = np.where(in_front, y[:, 2], 1.0)
    fx, fy, cx, cy = cameras.intrinsics[here].T
    error = np.stack([fx * y[:, 0] / z + cx, fy * y[:, 1] / z + cy], axis=1) - seen.xy
    error[~in_front] = np.inf
    by_y = np.zeros((len(z), 2, 3))
    by_y[:, 0, 0], by_y[:, 1, 1] = fx / z, fy / z
    by_y[:, 0, 2], by_y[:, 1, 2] = -fx * y[:, 0] / z**2, -fy * y[:, 1] / z**2
    shift = by_y @ turn * depth[:, None, None]
    by_host = np.concatenate([-(by_y @ turn @ turn_host @ _cross(ray)), shift], axis=2)
    by_picture = np.concatenate([by_y @ _cross(y), -shift], axis=2)
    return Projection(error, in_front, by_host, by_picture, _times(by_y @ turn, baseline))


def refine_depths(cameras: Cameras, points: Points, seen: Sightings, steps: int = 5) -> tuple[Points, Floats]:
    """Better inverse depths with the cameras as they are; also the information (k,) about each, its inverse variance.

    Every step moves each point for itself; a step that makes its own cost worse is halved and at last not taken.
    """
    information = 1 / points.sigma**2
    for _ in range(steps):
        now = project(cameras, points, seen)
        weight = robust_weight(now)
        slope = np.where(now.in_front[:, None], now.by_depth, 0.0)
        error = np.where(now.in_front[:, None], now.error, 0.0)
        information = 1 / points.sigma**2 + _sum((weight[:, None] * slope**2).sum(1), seen.point, len(points.host))
        pull = (points.inverse_depth - points.prior) / points.sigma**2
        pull = pull + _sum((weight[:, None] * slope * error).sum(1), seen.point, len(points.host))
        before = _cost_each(cameras, points, seen)
        step = -pull / information
        for _ in range(3):
            tried = replace(points, inverse_depth=np.maximum(points.inverse_depth + step, LEAST_INVERSE_DEPTH))
            worse = _cost_each(cameras, tried, seen) > before
            step = np.where(worse, step / 4, step)
        step = np.where(worse, 0.0, step)
        points = replace(points, inverse_depth=np.maximum(points.inverse_depth + step, LEAST_INVERSE_DEPTH))
    return points, information


def adjust(cameras: Cameras, points: Points, seen: Sightings, *, fixed: int, steps: int = 20) -> tuple[Cameras, Points]:
    """The cameras and points of least robust cost (Levenberg and Marquardt); the picture `fixed` stays in place."""
    from scipy import sparse

    moving = cameras.known.copy()
    moving[fixed] = False
    column = np.cumsum(moving) - 1
    size = 6 * int(moving.sum())
    if size == 0:
        return cameras, points
    damping, cost = 1e-3, _cost(cameras, points, seen)
    for _ in range(steps):
        now = project(cameras, points, seen)
        root = np.sqrt(robust_weight(now))[:, None]
        error = (np.where(now.in_front[:, None], now.error, 0.0) * root).ravel()
        blocks, rows, columns = [], [], []
        for by, picture in ((now.by_host, points.host[seen.point]), (now.by_picture, seen.picture)):
            kept = np.flatnonzero(moving[picture])
            blocks.append((by[kept] * root[kept, :, None]).ravel())
            rows.append(np.broadcast_to(2 * kept[:, None, None] + np.arange(2)[:, None], (len(kept), 2, 6)).ravel())
            at = 6 * column[picture[kept]][:, None, None] + np.arange(6)
            columns.append(np.broadcast_to(at, (len(kept), 2, 6)).ravel())
        index = (np.concatenate(rows), np.concatenate(columns))
        by_camera = sparse.csr_matrix((np.concatenate(blocks), index), shape=(len(error), size))
        every = np.arange(len(error))
        by_depth = sparse.csr_matrix(
            ((now.by_depth * root).ravel(), (every, np.repeat(seen.point, 2))), shape=(len(error), len(points.host))
        )
        cross = by_camera.T @ by_depth
        pull = by_depth.T @ error + (points.inverse_depth - points.prior) / points.sigma**2
        camera_pull = by_camera.T @ error
        hessian = (by_camera.T @ by_camera).toarray()
        own = np.asarray(by_depth.multiply(by_depth).sum(0)).ravel() + 1 / points.sigma**2
        while True:
            damped = own * (1 + damping)
            reduced = (
                hessian + damping * np.diag(np.diag(hessian) + 1e-9) - (cross.multiply(1 / damped) @ cross.T).toarray()
            )
            step = np.linalg.solve(reduced, -(camera_pull - cross @ (pull / damped)))
            depth_step = -(pull + cross.T @ step) / damped
            tried = _moved(cameras, moving, step.reshape(-1, 6))
            shifted = replace(points, inverse_depth=np.maximum(points.inverse_depth + depth_step, LEAST_INVERSE_DEPTH))
            reached = _cost(tried, shifted, seen)
            if reached < cost:
                break
            damping *= 10
            if damping > 1e6:
                return cameras, points
        gain, cost = cost - reached, reached
        cameras, points, damping = tried, shifted, max(damping / 10, 1e-9)
        if gain < 1e-5 * cost:
            break
    return cameras, points


def robust_weight(projection: Projection) -> Floats:
    """(m,) weight of each sighting: 1 without error, less the larger it is."""
    squared = np.where(projection.in_front, (projection.error**2).sum(1), np.inf)
    weight: Floats = 1 / (1 + squared / ROBUST_PIXELS**2)
    return weight


def rotation_of(vector: Floats) -> Floats:
    """Rotations (...,3,3) about vectors (...,3) by their lengths in radians."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    safe = np.maximum(angle, 1e-12)
    k = _cross(vector / safe[..., 0])
    turned: Floats = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)
    return turned


def _moved(cameras: Cameras, moving: NDArray[np.bool_], step: Floats) -> Cameras:
    rotation, centre = cameras.rotation.copy(), cameras.centre.copy()
    rotation[moving] = rotation[moving] @ rotation_of(step[:, :3])
    centre[moving] += step[:, 3:]
    return replace(cameras, rotation=rotation, centre=centre)


def _cost(cameras: Cameras, points: Points, seen: Sightings) -> float:
    return float(_cost_each(cameras, points, seen).sum())


def _cost_each(cameras: Cameras, points: Points, seen: Sightings) -> Floats:
    """(k,) robust cost of each point, half squared pixels where small."""
    found = project(cameras, points, seen)
    squared = np.where(found.in_front, (found.error**2).sum(1), 1e6)
    each = 0.5 * ROBUST_PIXELS**2 * np.log1p(squared / ROBUST_PIXELS**2)
    prior = 0.5 * ((points.inverse_depth - points.prior) / points.sigma) ** 2
    return prior + _sum(each, seen.point, len(points.host))


def _sum(values: Floats, point: Ints, count: int) -> Floats:
    return np.bincount(point, values, count).astype(np.float64)


def _times(matrices: Floats, vectors: Floats) -> Floats:
    product: Floats = (matrices @ vectors[..., None])[..., 0]
    return product


def _cross(v: Floats) -> Floats:
    """Matrices (...,3,3) of the cross product with v (...,3)."""
    matrix = np.zeros((*v.shape, 3))
    matrix[..., 0, 1], matrix[..., 0, 2], matrix[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    return matrix - np.swapaxes(matrix, -1, -2)
