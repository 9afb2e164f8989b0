"""Cameras and points that explain where corners were seen, all at once (bundle adjustment)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sana_wm.evaluation.engines.pictures import Floats
from sana_wm.evaluation.engines.projection import (
    Cameras,
    Points,
    Sightings,
    cross_matrix,
    depth_slopes,
    project,
    robust_costs,
    robust_weight,
    sum_by_point,
)

LEAST_INVERSE_DEPTH = 1e-4
DEPTH_STEPS = 5
LEAST_DAMPING, MOST_DAMPING = 1e-9, 1e6
LEAST_GAIN = 1e-5
"""A step that lowers the cost by less than this share is the last."""


def refine_depths(cameras: Cameras, points: Points, seen: Sightings, steps: int = DEPTH_STEPS) -> tuple[Points, Floats]:
    """Better inverse depths of the points seen, with the cameras as they are; also the information (k,) about each
    point, its inverse variance.

    Every point moves for itself; one that a step would make worse stays, and tries a smaller step next.
    """
    count = len(points.host)
    shorten = np.ones(count)
    cost = robust_costs(cameras, points, seen)
    for _ in range(steps):
        slope, error, weight = depth_slopes(cameras, points, seen)
        information = 1 / points.sigma**2 + sum_by_point((weight[:, None] * slope**2).sum(1), seen.point, count)
        pull = _pull_of_prior(points, seen) + sum_by_point((weight[:, None] * slope * error).sum(1), seen.point, count)
        tried = _deepened(points, -pull / information * shorten)
        reached = robust_costs(cameras, tried, seen)
        better = reached < cost
        gain = np.where(better, cost - reached, 0.0).sum()
        points = replace(points, inverse_depth=np.where(better, tried.inverse_depth, points.inverse_depth))
        cost, shorten = np.where(better, reached, cost), np.where(better, 1.0, shorten / 4)
        if gain < LEAST_GAIN * cost.sum():
            break
    return points, information


def adjust(
    cameras: Cameras, points: Points, seen: Sightings, moving: NDArray[np.bool_], steps: int = 20
) -> tuple[Cameras, Points]:
    """The points seen, and the cameras of the pictures `moving` (n,), of least robust cost (Levenberg, Marquardt)."""
    if not moving.any():
        return cameras, points
    damping, cost = 1e-3, robust_costs(cameras, points, seen).sum()
    for _ in range(steps):
        equations = _Equations.at(cameras, points, seen, moving)
        while True:
            step, depth_step = equations.solved(damping)
            tried, shifted = _moved(cameras, moving, step.reshape(-1, 6)), _deepened(points, depth_step)
            reached = robust_costs(tried, shifted, seen).sum()
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


def rotation_of(vector: Floats) -> Floats:
    """Rotations (...,3,3) about vectors (...,3) by their lengths in radians."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    safe = np.maximum(angle, 1e-12)
    k = cross_matrix(vector / safe[..., 0])
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
