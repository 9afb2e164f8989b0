"""Draws procedural scenes until one makes a good scene of the benchmark."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.nano.courses import Course, fitted, paced
from sana_wm.evaluation.bench.nano.drawn_world import DrawnWorld, draw_world, surrounding_points
from sana_wm.evaluation.bench.nano.origin import DrawnOrigin, MadePath, MadeScene
from sana_wm.evaluation.trajectory import FittedPath, clearances
from sana_wm.worlds.procedural import Renderer
from sana_wm.worlds.procedural.captions import MIN_SHARE
from sana_wm.worlds.procedural.visibility import look

LOOK_SIZE = (96, 160)
"""Size at which a scene is judged, whatever the size of the benchmark's images."""
SCALE_METRES = (4.5, 9.4)
"""Scene scales that are taken. In a larger one the ground would be too near for a camera at eye height."""
LEAST_THINGS, LEAST_SHARE = 5, 0.25
"""Things to be seen in the first frame, and the share of it that they fill."""
NEAR_METRES, MOST_NEAR, MOST_SKY = 1.3, 0.02, 0.5
LEAST_LIGHT, LEAST_CONTRAST = 58.0, 22.0
"""Mean and standard deviation of the first frame's pixels: no scene so dark that little shows."""
CLEARANCE = 0.15
"""Scene scales between a path and everything."""
LEAST_SIZE = 0.6
"""Share of its amplitude that a path may at most lose to keep clear."""
POINTS_EVERY, THINNED_TO = 0.4, 0.08
"""Metres between the places from which points are taken, and between the points that are kept."""
GROUND_BELOW = 2.0
"""Metres beyond the clearance within which points are kept: the ground is always among them."""


@dataclass(frozen=True)
class _Look:
    """The first frame of a scene: its scale, or what is wrong with it."""

    scale: float
    fault: str


def find_drawn_scene(
    seeds: Iterable[int],
    themes: tuple[str, ...],
    courses: Mapping[str, Course],
    num_frames: int,
    fps: float,
    size: tuple[int, int],
    name: str,
) -> MadeScene:
    """The first scene of `seeds` that is of one of the `themes`, shows something, and has room for all courses.

    Args:
        courses: by split, at full amplitude. size: height and width of the image. name: from which the wording of the
            prompts is drawn.

    Raises:
        RuntimeError: no seed gives such a scene.
    """
    timed = {split: paced(course, num_frames, fps) for split, course in courses.items()}
    tries, faults = 0, []
    for seed in seeds:
        world = draw_world(seed, tuple(courses.values()))
        if world.layout.theme not in themes:
            continue
        tries += 1
        seen = _look(world)
        if seen.fault:
            faults.append(seen.fault)
            continue
        try:
            paths = {split: _fit(world, course, num_frames, fps, seen.scale) for split, course in timed.items()}
        except InputError as error:
            faults.append(str(error))
            continue
        return _finish(world, seed, tuple(courses.values()), paths, seen.scale, tries, size, name)
    raise RuntimeError(f"none of {tries} scenes drawn for {name} is fit for it: {'; '.join(faults[-3:])}")


def _look(world: DrawnWorld) -> _Look:
    here = world.poses(torch.eye(4)[None])
    frames, depth = world.render(here, LOOK_SIZE, Renderer(samples=1), with_depth=True)
    assert depth is not None
    solid = depth[torch.isfinite(depth)]
    if len(solid) < (1 - MOST_SKY) * depth.numel():
        return _Look(0.0, "the first frame is mostly sky")
    scale = float(solid.median())
    if not SCALE_METRES[0] <= scale <= SCALE_METRES[1]:
        return _Look(scale, f"the scene scale is {scale:.1f} m")
    if float((depth < NEAR_METRES).float().mean()) > MOST_NEAR:
        return _Look(scale, "something stands before the camera")
    share = look(world.layout, here.numpy(), world.lens).first
    if int((share >= MIN_SHARE).sum()) < LEAST_THINGS or float(share.sum()) < LEAST_SHARE:
        return _Look(scale, "the first frame is nearly empty")
    pixels = frames[0].float()
    if float(pixels.mean()) < LEAST_LIGHT or float(pixels.mean(0).std()) < LEAST_CONTRAST:
        return _Look(scale, "the first frame is dark or flat")
    return _Look(scale, "")


def _fit(world: DrawnWorld, course: Course, num_frames: int, fps: float, scale: float) -> tuple[Course, FittedPath]:
    """The course with room in the scene; raises :class:`InputError` where there is too little."""
    points = _points(world, course.path(num_frames, scale), scale)
    found, path = fitted(course, num_frames, fps, scale, points, CLEARANCE)
    if found.amplitude < LEAST_SIZE * course.amplitude:
        raise InputError(f"{course.template} would have to shrink to {path.amplitude:.2f} of its size.")
    if path.amplitude < 1:
        # The points were seen from the larger path; look again from the one that is taken.
        clear = float(clearances(path.c2w, _points(world, path.c2w, scale)).min())
        if clear < CLEARANCE * scale:
            raise InputError(f"{course.template} comes within {clear:.2f} m of the scene.")
        path = FittedPath(path.c2w, path.amplitude, clear)
    return found, path


def _points(world: DrawnWorld, c2w: Tensor, scale: float) -> Tensor:
    """Points (n,3) that a camera on the path, or on a smaller one of its shape, could come near to."""
    centres = c2w[:, :3, 3]
    travelled = float(centres.diff(dim=0).norm(dim=1).sum())
    count = max(2, round(travelled / POINTS_EVERY) + 1)
    chosen = torch.linspace(0, len(centres) - 1, count).round().long()
    points = surrounding_points(world, centres[chosen], Renderer(samples=1))
    margin = CLEARANCE * scale + GROUND_BELOW
    low, high = centres.amin(0) - margin, centres.amax(0) + margin
    points = points[((points >= low) & (points <= high)).all(1)]
    return torch.unique((points / THINNED_TO).round(), dim=0) * THINNED_TO


def _finish(
    world: DrawnWorld,
    seed: int,
    laid_out_for: tuple[Course, ...],
    paths: Mapping[str, tuple[Course, FittedPath]],
    scale: float,
    tries: int,
    size: tuple[int, int],
    name: str,
) -> MadeScene:
    image, _ = world.render(world.poses(torch.eye(4)[None]), size, Renderer())
    made = {}
    for split, (course, path) in paths.items():
        c2w = path.c2w.float().double()  # as it is written
        origin = DrawnOrigin("procedural", seed, laid_out_for, course, scale, path.clearance, tries)
        made[split] = MadePath(c2w, world.caption(world.poses(c2w), zlib.crc32(f"{name} {split}".encode())), origin)
    return MadeScene(image[0], world.intrinsics(1, *size)[0], made)
