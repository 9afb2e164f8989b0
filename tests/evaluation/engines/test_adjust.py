"""Bundle adjustment finds cameras and points again, and its slopes are those of its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sana_wm.evaluation.engines.adjust import adjust, refine_depths, rotation_of
from sana_wm.evaluation.engines.projection import Cameras, Points, Sightings, depth_slopes, pixel_errors, project

LENS = np.array([200.0, 210.0, 99.5, 59.5])
PICTURES, COUNT = 5, 60


def world(seed: int = 0) -> tuple[Cameras, Points, Sightings]:
    """Points on rays of pictures 0 and 1, seen without error by all later pictures of a turning walk."""
    rng = np.random.default_rng(seed)
    turn = np.linspace(0, 0.15, PICTURES)[:, None] * np.array([0.2, 1.0, 0.1])
    centre = np.linspace(0, 1, PICTURES)[:, None] * np.array([0.5, -0.1, 0.8])
    cameras = Cameras(rotation_of(turn), centre, np.tile(LENS, (PICTURES, 1)), np.ones(PICTURES, bool))
    ray = np.concatenate([rng.uniform(-0.4, 0.4, (COUNT, 2)), np.ones((COUNT, 1))], axis=1)
    inverse = 1 / rng.uniform(3, 9, COUNT)
    host = np.arange(COUNT) % 2
    points = Points(host, ray, inverse, inverse.copy(), np.where(host == 0, 0.02, 1.0) * inverse)
    picture, point = (grid.ravel() for grid in np.meshgrid(np.arange(PICTURES), np.arange(COUNT), indexing="ij"))
    later = picture > host[point]
    seen = Sightings(picture[later], point[later], np.zeros((int(later.sum()), 2)))
    return cameras, points, replace(seen, xy=project(cameras, points, seen).error)


def test_slopes_are_those_of_the_errors() -> None:
    cameras, points, seen = world()
    found, small = project(cameras, points, seen), 1e-6
    slopes, error, weight = depth_slopes(cameras, points, seen)
    assert np.allclose(slopes, found.by_depth)
    assert np.allclose(error, 0)
    assert np.allclose(weight, 1)
    deeper = replace(points, inverse_depth=points.inverse_depth + small)
    assert np.allclose((project(cameras, deeper, seen).error - found.error) / small, slopes, atol=1e-3)
    for axis in range(6):
        step = small * np.eye(6)[axis]
        rotation, centre = cameras.rotation.copy(), cameras.centre.copy()
        rotation[2] = rotation[2] @ rotation_of(step[:3])
        centre[2] += step[3:]
        change = (project(replace(cameras, rotation=rotation, centre=centre), points, seen).error - found.error) / small
        assert np.allclose(change[seen.picture == 2], found.by_picture[seen.picture == 2, :, axis], atol=1e-3)
        rotation, centre = cameras.rotation.copy(), cameras.centre.copy()
        rotation[1] = rotation[1] @ rotation_of(step[:3])
        centre[1] += step[3:]
        hosted = (points.host[seen.point] == 1) & (seen.picture != 1)
        change = (project(replace(cameras, rotation=rotation, centre=centre), points, seen).error - found.error) / small
        assert np.allclose(change[hosted], found.by_host[hosted, :, axis], atol=1e-3)


def test_depths_are_found_where_cameras_moved() -> None:
    cameras, points, seen = world()
    guess = np.where(points.host == 1, 0.2, points.inverse_depth)
    found, information = refine_depths(cameras, replace(points, inverse_depth=guess), seen, steps=20)
    assert np.allclose(found.inverse_depth, points.inverse_depth, rtol=1e-3)
    assert (information > 1 / points.sigma**2).all()


def test_points_that_are_not_seen_stay() -> None:
    cameras, points, seen = world()
    points = replace(points, inverse_depth=1.1 * points.inverse_depth)
    some = seen[seen.point < 10]
    refined, _ = refine_depths(cameras, points, some)
    moving = np.arange(PICTURES) > 2
    _, adjusted = adjust(cameras, points, some, moving)
    for found in (refined, adjusted):
        assert np.array_equal(found.inverse_depth[10:], points.inverse_depth[10:])
        assert not np.allclose(found.inverse_depth[:10], points.inverse_depth[:10])


@pytest.mark.parametrize("wrong", [0, 25])
def test_shaken_cameras_go_back_even_if_some_sightings_are_wrong(wrong: int) -> None:
    cameras, points, seen = world()
    rng = np.random.default_rng(1)
    seen.xy[rng.choice(len(seen.xy), wrong, replace=False)] += 30
    moving = np.arange(PICTURES) > 0
    shaken = replace(
        cameras,
        rotation=cameras.rotation @ rotation_of(0.01 * rng.standard_normal((PICTURES, 3)) * moving[:, None]),
        centre=cameras.centre + 0.03 * rng.standard_normal((PICTURES, 3)) * moving[:, None],
    )
    found, _ = adjust(shaken, points, seen, moving, steps=50)
    assert np.abs(found.centre - cameras.centre).max() < 0.01
    assert np.abs(found.rotation - cameras.rotation).max() < 1e-3
    assert np.array_equal(found.centre[0], cameras.centre[0])
    assert np.median(pixel_errors(found, points, seen)) < 0.1


def test_a_camera_turning_on_the_spot_is_found_though_depths_are_not() -> None:
    cameras, points, seen = world()
    still = replace(cameras, centre=np.zeros((PICTURES, 3)))
    seen = replace(seen, xy=np.zeros_like(seen.xy))
    seen = replace(seen, xy=project(still, points, seen).error)
    unknown = replace(points, inverse_depth=np.full(COUNT, 0.2), prior=np.full(COUNT, 0.2))
    start = replace(still, rotation=still.rotation @ rotation_of(np.full((PICTURES, 3), 0.01)))
    start.rotation[0] = still.rotation[0]
    found, _ = adjust(start, unknown, seen, np.arange(PICTURES) > 0)
    assert np.abs(found.rotation - still.rotation).max() < 1e-4
    assert np.abs(found.centre).max() < 1e-3
