"""The true video of a scene of our own benchmark, rendered again from where the scene comes from; nothing is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.files import SPLITS, WORLDS, split_name
from sana_wm.evaluation.bench.nano.doom_walk import Spot, plan_of, walk
from sana_wm.evaluation.bench.nano.drawn_world import draw_world
from sana_wm.evaluation.bench.nano.origin import DrawnOrigin, WalkedOrigin, read_origins
from sana_wm.geometry.poses import relative_to_first
from sana_wm.worlds.clip import WorldClip
from sana_wm.worlds.doom.camera import choose_lens
from sana_wm.worlds.doom.engine import Engine, View, import_vizdoom
from sana_wm.worlds.procedural import Renderer

SAME_POSE = 1e-4
"""Largest difference of an entry between the poses of a walk and those of the benchmark."""


def has_truth(root: Path, split: str) -> bool:
    """Whether the true videos of a split can be rendered: it is one of our own benchmarks."""
    return (Path(root) / SPLITS[split_name(split)] / WORLDS).is_file()


def true_clip(
    root: Path, scene: BenchScene, *, device: torch.device | str, renderer: Renderer, with_depth: bool = True
) -> WorldClip:
    """What the camera of a scene truly sees: frames of the size of its image, poses in the world, depth.

    Equal calls give equal frames; the first is the image, where device and samples are those it was made with (a CPU
    and four). The poses are those of the scene, moved to where the scene lies in its world. Procedural frames are on
    `device`, those of Freedoom on the CPU, and its depth is in coarse steps.

    Raises:
        InputError: the benchmark does not say where the scene comes from, vizdoom is missing, or another version of
            the game walks another way.
    """
    origin = read_origins(Path(root), scene.split).get(scene.scene_id)
    if origin is None:
        raise InputError(f"{WORLDS} of '{root}', split {scene.split}, does not hold the scene {scene.scene_id}.")
    with Image.open(scene.image_path) as image:
        size = image.height, image.width
    if isinstance(origin, WalkedOrigin):
        return _walked(origin, scene, size, with_depth)
    return _drawn(origin, scene, size, torch.device(device), renderer, with_depth)


def _drawn(
    origin: DrawnOrigin,
    scene: BenchScene,
    size: tuple[int, int],
    device: torch.device,
    renderer: Renderer,
    with_depth: bool,
) -> WorldClip:
    world = draw_world(origin.seed, origin.laid_out_for)
    c2w = world.poses(scene.c2w)
    frames, depth = world.render(c2w, size, renderer, device, with_depth)
    intrinsics = world.intrinsics(len(c2w), *size)
    name = f"procedural/{scene.split}/{scene.scene_id}"
    return WorldClip(frames, c2w.to(device), intrinsics.to(device), scene.prompt, depth, name)


def _walked(origin: WalkedOrigin, scene: BenchScene, size: tuple[int, int], with_depth: bool) -> WorldClip:
    plan = plan_of(origin.course.path(len(scene.c2w), origin.scale), origin.spot)
    views = _views(origin.spot, plan, size, with_depth)
    c2w = torch.from_numpy(np.array([view.c2w for view in views], np.float32).reshape(-1, 4, 4))
    if len(views) != len(plan) or (relative_to_first(c2w.double()) - scene.c2w).abs().max() > SAME_POSE:
        version = import_vizdoom().__version__
        raise InputError(
            f"the walk of {scene.scene_id}, split {scene.split}, comes out differently here (vizdoom {version}) than "
            f"when the benchmark was made (vizdoom {origin.engine}); make the benchmark again with this version."
        )
    lens = choose_lens(size[1], size[0])
    depths = [view.depth for view in views if view.depth is not None]
    return WorldClip(
        frames=torch.from_numpy(np.stack([view.frame for view in views])),
        c2w=c2w,
        intrinsics=torch.tensor([lens.intrinsics(view.game_fov) for view in views], dtype=torch.float32),
        caption=scene.prompt,
        depth=torch.from_numpy(np.stack(depths)) if with_depth else None,
        name=f"freedoom/{scene.split}/{scene.scene_id}/{origin.spot.level}",
    )


def _views(spot: Spot, plan: np.ndarray, size: tuple[int, int], with_depth: bool) -> list[View]:
    engine = Engine(spot.level, choose_lens(size[1], size[0]), seed=spot.engine_seed, depth=with_depth)
    try:
        return list(walk(engine, spot, plan))
    finally:
        engine.close()
