"""Cameras and points that explain where corners were seen, all at once (bundle adjustment).

A point lies on the ray through the corner in the picture where it was first seen with a known camera (its host), at an
inverse depth; so one number a point is unknown, and a point at infinity is no exception.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sana_wm.evaluation.engines.pictures import Floats
from sana_wm.evaluation.engines.tracks import Ints

ROBUST_PIXELS = 1.0
"""Errors beyond this count less and less (Cauchy's loss): corners on edges slide, and made-up scenes are not rigid."""
LEAST_INVERSE_DEPTH = 1e-4
DEPTH_STEPS = 5
LEAST_DAMPING, MOST_DAMPING = 1e-9, 1e6
LEAST_GAIN = 1e-5
"""A step that lowers the cost by less than this share is the last."""


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
    ray, depth = points.ray[seen.point], points.inverse_depth[seen.point]
    y, error, in_front = _errors(cameras, points, seen)
    z = np.where(in_front, y[:, 2], 1.0)
    fx, fy, _, _ = cameras.intrinsics[here].T
    by_y = np.zeros((len(z), 2, 3))
    by_y[:, 0, 0], by_y[:, 1, 1] = fx / z, fy / z
    by_y[:, 0, 2], by_y[:, 1, 2] = -fx * y[:, 0] / z**2, -fy * y[:, 1] / z**2
    by_place = by_y @ turn
    shift = by_place * depth[:, None, None]
    by_host = np.concatenate([-(by_place @ turn_host @ _cross(ray)), shift], axis=2)
    by_picture = np.concatenate([by_y @ _cross(y), -shift], axis=2)
    baseline = cameras.centre[host] - cameras.centre[here]
    return Projection(error, in_front, by_host, by_picture, _times(by_place, baseline))


def pixel_errors(cameras: Cameras, points: Points, seen: Sightings) -> Floats:
    """(m,) pixels between each sighting and where the point should be seen; infinite behind the camera."""
    distance: Floats = np.linalg.norm(_errors(cameras, points, seen)[1], axis=1)
    return distance


def refine_depths(cameras: Cameras, points: Points, seen: Sightings, steps: int = DEPTH_STEPS) -> tuple[Points, Floats]:
    """Better inverse depths of the points seen, with the cameras as they are; also the information (k,) about each
    point, its inverse variance.

    Every point moves for itself; one that a step would make worse stays, and tries a smaller step next.
    """
    count = len(points.host)
    shorten = np.ones(count)
    cost = _cost_each(cameras, points, seen)
    for _ in range(steps):
        slope, error, weight = _by_depth(cameras, points, seen)
        information = 1 / points.sigma**2 + _sum((weight[:, None] * slope**2).sum(1), seen.point, count)
        pull = _pull_of_prior(points, seen) + _sum((weight[:, None] * slope * error).sum(1), seen.point, count)
        tried = _deepened(points, -pull / information * shorten)
        reached = _cost_each(cameras, tried, seen)
        better = reached < cost
        points = replace(points, inverse_depth=np.where(better, tried.inverse_depth, points.inverse_depth))
        cost, shorten = np.where(better, reached, cost), np.where(better, 1.0, shorten / 4)
    return points, information


def adjust(
    cameras: Cameras, points: Points, seen: Sightings, moving: NDArray[np.bool_], steps: int = 20
) -> tuple[Cameras, Points]:
    """The points seen, and the cameras of the pictures `moving` (n,), of least robust cost (Levenberg, Marquardt)."""
    if not moving.any():
        return cameras, points
    damping, cost = 1e-3, _cost_each(cameras, points, seen).sum()
    for _ in range(steps):
        equations = _Equations.at(cameras, points, seen, moving)
        while True:
            step, depth_step = equations.solved(damping)
            tried, shifted = _moved(cameras, moving, step.reshape(-1, 6)), _deepened(points, depth_step)
            reached = _cost_each(tried, shifted, seen).sum()
            if reached < cost:
                break
            damping *= 10
            if damping > MOST_DAMPING:
                return cameras, points
        gain, cost = cost - reached, reached
        cameras, points, damping = tried, shifted, max(damping / 10, LEAST_DAMPING)
        if gain < LEAST_GAIN * cost:
            break
    return cameras, points


@dataclass(frozen=True)
class _Equations:
    """Normal equations of cameras (6 unknowns each) and points (1 each); points are tied to each other by cameras only.

    Attributes:
        cameras: (c,c) the cameras' block. cross: sparse (c,k). points: (k,) the diagonal of the points' block.
        camera_pull (c,), point_pull (k,): slopes of the cost.
    """

    cameras: Floats
    cross: Any
    points: Floats
    camera_pull: Floats
    point_pull: Floats

    @classmethod
    def at(cls, cameras: Cameras, points: Points, seen: Sightings, moving: NDArray[np.bool_]) -> _Equations:
        from scipy import sparse

        now = project(cameras, points, seen)
        root = np.sqrt(robust_weight(now))[:, None]
        error = (np.where(now.in_front[:, None], now.error, 0.0) * root).ravel()
        column = np.cumsum(moving) - 1
        values, rows, columns = [], [], []
        for by, picture in ((now.by_host, points.host[seen.point]), (now.by_picture, seen.picture)):
            kept = np.flatnonzero(moving[picture])
            values.append((by[kept] * root[kept, :, None]).ravel())
            rows.append(np.broadcast_to(2 * kept[:, None, None] + np.arange(2)[:, None], (len(kept), 2, 6)).ravel())
            at = 6 * column[picture[kept]][:, None, None] + np.arange(6)
            columns.append(np.broadcast_to(at, (len(kept), 2, 6)).ravel())
        by_camera = sparse.csr_matrix(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
            shape=(len(error), 6 * int(moving.sum())),
        )
        by_depth = sparse.csr_matrix(
            ((now.by_depth * root).ravel(), (np.arange(len(error)), np.repeat(seen.point, 2))),
            shape=(len(error), len(points.host)),
        )
        return cls(
            cameras=(by_camera.T @ by_camera).toarray(),
            cross=(by_camera.T @ by_depth).tocsr(),
            points=np.asarray(by_depth.multiply(by_depth).sum(0)).ravel() + 1 / points.sigma**2,
            camera_pull=by_camera.T @ error,
            point_pull=by_depth.T @ error + _pull_of_prior(points, seen),
        )

    def solved(self, damping: float) -> tuple[Floats, Floats]:
        """Steps (c,) and (k,); the points are eliminated, so that only the cameras' block is solved."""
        points = self.points * (1 + damping)
        block = self.cameras + damping * np.diag(np.diag(self.cameras) + 1e-9)
        block = block - (self.cross.multiply(1 / points) @ self.cross.T).toarray()
        step: Floats = np.linalg.solve(block, self.cross @ (self.point_pull / points) - self.camera_pull)
        return step, -(self.point_pull + self.cross.T @ step) / points


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


def _deepened(points: Points, step: Floats) -> Points:
    return replace(points, inverse_depth=np.maximum(points.inverse_depth + step, LEAST_INVERSE_DEPTH))


def _pull_of_prior(points: Points, seen: Sightings) -> Floats:
    """(k,) slope of the priors' cost; 0 for points that are not seen, which stay where they are."""
    present = np.bincount(seen.point, minlength=len(points.host)) > 0
    return np.where(present, (points.inverse_depth - points.prior) / points.sigma**2, 0.0)


def _errors(cameras: Cameras, points: Points, seen: Sightings) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The points (m,3) in the cameras, times their inverse depths in the hosts, so that a point at infinity is finite;
    the errors (m,2) in pixels; and which points lie in front of the cameras.
    """
    host, here = points.host[seen.point], seen.picture
    baseline = cameras.centre[host] - cameras.centre[here]
    place = _times(cameras.rotation[host], points.ray[seen.point])
    place += points.inverse_depth[seen.point][:, None] * baseline
    y = _times(cameras.rotation[here].transpose(0, 2, 1), place)
    in_front = y[:, 2] > 1e-3
    lens = cameras.intrinsics[here]
    error = lens[:, :2] * y[:, :2] / np.where(in_front, y[:, 2], 1.0)[:, None] + lens[:, 2:] - seen.xy
    error[~in_front] = np.inf
    return y, error, in_front


def _by_depth(cameras: Cameras, points: Points, seen: Sightings) -> tuple[Floats, Floats, Floats]:
    """Change of the errors (m,2) by the inverse depths, the errors (m,2) and their weights (m,), 0 behind a camera."""
    here = seen.picture
    y, error, in_front = _errors(cameras, points, seen)
    baseline = cameras.centre[points.host[seen.point]] - cameras.centre[here]
    by_depth = _times(cameras.rotation[here].transpose(0, 2, 1), baseline)
    z = np.where(in_front, y[:, 2], 1.0)[:, None]
    slope = cameras.intrinsics[here, :2] * (by_depth[:, :2] - by_depth[:, 2:] * y[:, :2] / z) / z
    error = np.where(in_front[:, None], error, 0.0)
    weight = np.where(in_front, 1 / (1 + (error**2).sum(1) / ROBUST_PIXELS**2), 0.0)
    return slope, error, weight


def _cost_each(cameras: Cameras, points: Points, seen: Sightings) -> Floats:
    """(k,) robust cost of each point, half squared pixels where small."""
    _, error, in_front = _errors(cameras, points, seen)
    squared = np.where(in_front, (error**2).sum(1), 1e6)
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
