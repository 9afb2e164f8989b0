"""How far a video turns is seen in its pictures, against what it was told."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.evaluation.rollout_scene import long_scene
from sana_wm.evaluation.turning import across, pixels_a_turn, turns
from tests.engine.tiny import picture
from tests.evaluation.test_long_rollout import tiny_pipe

CPU = torch.device("cpu")


@pytest.mark.parametrize(("key", "sign"), [("a", 1), ("d", -1)])
@pytest.mark.parametrize("size", [(48, 80), (47, 131)])
def test_a_true_world_turns_as_it_is_told(key: str, sign: int, size: tuple[int, int]) -> None:
    found = []
    for index in range(3):
        scene = long_scene("test", index, 25, key)
        frames, lenses = scene.render(torch.arange(8, 25), size, CPU)
        shown = frames.permute(0, 2, 3, 1).numpy()
        pixels = float(np.median([across(a, b) for a, b in pairwise(shown)]))
        found.append(sign * pixels / pixels_a_turn(math.radians(0.6), float(lenses[0, 0]), size[1]))
    assert float(np.median(found)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("by", [-5, 0, 3])
def test_a_picture_that_is_pushed_aside_is_found_there(by: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 90, 3), dtype=np.uint8)
    assert across(noise[:, 10:74], noise[:, 10 - by : 74 - by]) == pytest.approx(by, abs=0.1)


def test_one_colour_goes_nowhere() -> None:
    grey = np.full((16, 32, 3), 128, dtype=np.uint8)
    assert math.isfinite(across(grey, grey))


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="16 or more wide"):
        across(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))


def test_a_world_that_is_asked_how_it_turns_stays_as_it_is() -> None:
    with World.begin(tiny_pipe(), picture(), "a street", fov=70.0) as world:
        world.step("w")
        before = world.state
        found = turns(world)
        assert world.state is before
    assert set(found) == {"left", "right"}
    assert all(map(math.isfinite, found.values()))
