"""Where points should be seen, and how that changes with cameras and depths.

A point lies on the ray through the corner in the picture where it was first seen with a known camera (its host), at an
inverse depth; so one number a point is unknown, and a point at infinity is no exception.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sana_wm.evaluation.engines.pictures import Floats
from sana_wm.evaluation.engines.tracks import Ints

ROBUST_PIXELS = 1.0
"""Errors beyond this count less and less (Cauchy's loss): corners on edges slide, and made-up scenes are not rigid."""
BEHIND = 1e6
"""Squared pixels of the error of a point behind its camera."""
LEAST_Z = 1e-3


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
    by_host = np.concatenate([-(by_place @ turn_host @ cross_matrix(ray)), shift], axis=2)
    by_picture = np.concatenate([by_y @ cross_matrix(y), -shift], axis=2)
    baseline = cameras.centre[host] - cameras.centre[here]
    return Projection(error, in_front, by_host, by_picture, _times(by_place, baseline))


def pixel_errors(cameras: Cameras, points: Points, seen: Sightings) -> Floats:
    """(m,) pixels between each sighting and where the point should be seen; infinite behind the camera."""
    distance: Floats = np.linalg.norm(_errors(cameras, points, seen)[1], axis=1)
    return distance


def depth_slopes(cameras: Cameras, points: Points, seen: Sightings) -> tuple[Floats, Floats, Floats]:
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


def robust_costs(cameras: Cameras, points: Points, seen: Sightings) -> Floats:
    """(k,) robust cost of each point, half squared pixels where small."""
    _, error, in_front = _errors(cameras, points, seen)
    squared = np.where(in_front, (error**2).sum(1), BEHIND)
    each = 0.5 * ROBUST_PIXELS**2 * np.log1p(squared / ROBUST_PIXELS**2)
    prior = 0.5 * ((points.inverse_depth - points.prior) / points.sigma) ** 2
    return prior + sum_by_point(each, seen.point, len(points.host))


def robust_weight(projection: Projection) -> Floats:
    """(m,) weight of each sighting: 1 without error, less the larger it is."""
    squared = np.where(projection.in_front, (projection.error**2).sum(1), np.inf)
    weight: Floats = 1 / (1 + squared / ROBUST_PIXELS**2)
    return weight


def _errors(cameras: Cameras, points: Points, seen: Sightings) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The points (m,3) in the cameras, times their inverse depths in the hosts, so that a point at infinity is finite;
    the errors (m,2) in pixels; and which points lie in front of the cameras.
    """
    host, here = points.host[seen.point], seen.picture
    baseline = cameras.centre[host] - cameras.centre[here]
    place = _times(cameras.rotation[host], points.ray[seen.point])
    place += points.inverse_depth[seen.point][:, None] * baseline
    y = _times(cameras.rotation[here].transpose(0, 2, 1), place)
    in_front = y[:, 2] > LEAST_Z
    lens = cameras.intrinsics[here]
    error = lens[:, :2] * y[:, :2] / np.where(in_front, y[:, 2], 1.0)[:, None] + lens[:, 2:] - seen.xy
    error[~in_front] = np.inf
    return y, error, in_front


def sum_by_point(values: Floats, point: Ints, count: int) -> Floats:
    return np.bincount(point, values, count).astype(np.float64)


def _times(matrices: Floats, vectors: Floats) -> Floats:
    product: Floats = np.einsum("mij,mj->mi", matrices, vectors)  # `@` calls a routine for each of the small matrices
    return product


def cross_matrix(v: Floats) -> Floats:
    """Matrices (...,3,3) of the cross product with v (...,3)."""
    matrix = np.zeros((*v.shape, 3))
    matrix[..., 0, 1], matrix[..., 0, 2], matrix[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    return matrix - np.swapaxes(matrix, -1, -2)
