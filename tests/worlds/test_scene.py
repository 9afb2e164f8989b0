"""Scenes follow from their seed, are well formed, and never stand in the camera's way."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sana_wm.worlds.procedural import Scene, clips, draw, draw_with_layout, lens_intrinsics, sample_batch
from sana_wm.worlds.procedural.render import Renderer, surface_rows
from sana_wm.worlds.procedural.scene import COLUMNS, GROUND, NUM_COLS, NUM_ENV, NUM_ROWS, NUM_SOLIDS, Col, Env
from sana_wm.worlds.splits import split_seed

SEEDS = range(1000, 1016)


def test_the_same_seed_gives_the_same_scene_path_and_caption() -> None:
    a, b, other = draw(5, 33), draw(5, 33), draw(6, 33)
    assert np.array_equal(a.surfaces, b.surfaces)
    assert np.array_equal(a.environment, b.environment)
    assert np.array_equal(a.c2w, b.c2w)
    assert (a.lens, a.caption) == (b.lens, b.caption)
    assert not np.array_equal(a.surfaces, other.surfaces)


def test_a_drawn_clip_travels_between_processes() -> None:
    drawn = draw(7, 9)
    back = pickle.loads(pickle.dumps(drawn))  # what a pool of worker processes does
    assert np.array_equal(back.surfaces, drawn.surfaces)
    assert back.caption == drawn.caption


@pytest.mark.parametrize("seed", SEEDS)
def test_tables_are_finite_and_hold_ten_to_twenty_four_things(seed: int) -> None:
    drawn, layout = draw_with_layout(seed, 81)
    assert drawn.surfaces.shape == (NUM_ROWS, NUM_COLS)
    assert drawn.environment.shape == (NUM_ENV,)
    assert drawn.surfaces.dtype == drawn.environment.dtype == np.float32
    assert np.isfinite(drawn.surfaces).all()
    assert np.isfinite(drawn.environment).all()
    assert 8 <= len(layout.things) <= 24
    rows = [row for thing in layout.things for row in thing.rows]
    assert len(rows) == len(set(rows))
    sun = drawn.environment[Env.SUN_X : Env.SUN_Z + 1]
    assert np.linalg.norm(sun) == pytest.approx(1, abs=1e-5)
    assert sun[1] < 0  # y is down
    assert 50 <= drawn.lens <= 100


@pytest.mark.parametrize("num_frames", [33, 481])
def test_every_solid_keeps_away_from_the_path(num_frames: int) -> None:
    for seed in SEEDS:
        drawn, layout = draw_with_layout(seed, num_frames)
        place = drawn.c2w[:, [0, 2], 3]
        for row in (row for thing in layout.things for row in thing.rows):
            solid = drawn.surfaces[row]
            offset = place - solid[[Col.X, Col.Z]]
            along = np.abs(offset @ solid[[Col.COS, Col.SIN]])
            across = np.abs(offset @ (solid[[Col.SIN, Col.COS]] * (-1, 1)))
            if row >= COLUMNS.start:
                gap = (np.hypot(along / solid[Col.HX], across / solid[Col.HZ]) - 1) * min(solid[Col.HX], solid[Col.HZ])
            else:
                gap = np.hypot(np.maximum(along - solid[Col.HX], 0), np.maximum(across - solid[Col.HZ], 0))
            overhead = solid[Col.Y] + solid[Col.HY] < drawn.c2w[:, 1, 3].min() - 0.1
            assert overhead or gap.min() > 0.3, (seed, row)


def test_most_frames_show_several_things_and_none_is_blocked() -> None:
    counts, largest = [], []
    for seed in SEEDS:
        drawn, layout = draw_with_layout(seed, 81)
        poses = torch.from_numpy(drawn.c2w[::40])[None]
        scene = Scene.stack([drawn.surfaces], [drawn.environment])
        rows = surface_rows(scene, poses, lens_intrinsics([drawn.lens], 3, 24, 40), 24, 40)[0]
        for picture in rows:
            cells = np.bincount(picture.flatten().numpy(), minlength=NUM_ROWS)[:GROUND]
            counts.append(sum(cells[list(thing.rows)].sum() >= 5 for thing in layout.things))
            largest.append(cells.max() / picture.numel())
    assert np.mean(counts) > 4
    assert np.mean(np.array(counts) == 0) < 0.03
    assert np.mean(np.array(largest) > 0.7) < 0.03


def test_clips_are_deterministic_in_their_indices() -> None:
    first, second = clips("validation", 3, 2, 9, 24, 40, with_depth=True)
    (again,) = clips("validation", 4, 1, 9, 24, 40)
    assert first.name == "procedural/validation/000003"
    assert torch.equal(second.frames, again.frames)
    assert torch.equal(second.c2w, again.c2w)
    assert second.caption == again.caption
    assert again.depth is None
    assert first.depth is not None
    assert first.depth.shape == (9, 24, 40)
    assert first.frames.shape == (9, 3, 24, 40)
    assert first.frames.dtype == torch.uint8
    assert first.intrinsics.shape == (9, 4)


def test_a_batch_holds_the_same_clips_as_single_draws() -> None:
    seeds = [split_seed("train", i) for i in (11, 12)]
    frames, c2w, intrinsics, captions = sample_batch(seeds, 5, 24, 40, "cpu", Renderer())
    assert frames.shape == (2, 5, 3, 24, 40)
    assert c2w.shape == (2, 5, 4, 4)
    assert intrinsics.shape == (2, 5, 4)
    (single,) = clips("train", 12, 1, 5, 24, 40)
    assert torch.equal(frames[1], single.frames)
    assert captions[1] == single.caption


def test_unused_rows_are_out_of_sight() -> None:
    drawn, layout = draw_with_layout(1, 9)
    used = {row for thing in layout.things for row in thing.rows}
    unused = [row for row in range(NUM_SOLIDS) if row not in used]
    assert (drawn.surfaces[unused, Col.Y] > 1000).all()
