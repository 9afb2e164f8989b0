"""The true world goes where a world goes and shows what is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.true_world import TrueWorld
from sana_wm.geometry.actions import MotionRules, rollout
from sana_wm.worlds.procedural import Renderer, draw, render_drawn

SIZE = (24, 40)


def world(frames: int = 24, **rules: float) -> TrueWorld:
    return TrueWorld(draw(3, 25), SIZE, frames, MotionRules(**rules), Renderer(1))


def test_following_the_path_of_a_clip_shows_the_clip() -> None:
    drawn = draw(3, 25)
    c2w = torch.from_numpy(drawn.c2w).double()
    relative = torch.linalg.inv(c2w[0]) @ c2w
    frames = world().step(poses=relative[1:].float())
    clip = render_drawn([drawn], *SIZE, "cpu", Renderer(1))[0][0].permute(0, 2, 3, 1).numpy()
    off = np.abs(frames.astype(int) - clip)
    assert frames.shape == (25, *SIZE, 3)
    assert (off > 2).mean() < 1e-3  # an edge may fall on the other side of a ray


def test_keys_lead_where_they_lead_in_a_world_of_a_model() -> None:
    one = world(rotation_speed_deg=1.2)
    shapes = [one.step(keys).shape[0] for keys in ("wd", "a")]
    assert shapes == [25, 24]
    assert torch.equal(one.c2w, rollout("wd-24,a-24", rotation_speed_deg=1.2)[-1])
    other = world(8)
    assert [len(other.step("w")) for _ in range(2)] == [9, 8]


def test_moving_changes_the_picture_and_standing_still_does_not() -> None:
    one = world(8)
    still, moved = one.step("none"), one.step("d")
    assert (still == still[0]).all()
    assert not np.array_equal(moved[-1], still[0])


def test_drawing_the_last_frame_only_gives_the_last_frame() -> None:
    every, last = world(8), TrueWorld(draw(3, 25), SIZE, 8, renderer=Renderer(1), last_only=True)
    for keys in ("wd", "a"):
        assert np.array_equal(last.step(keys), every.step(keys)[-1:])


def test_wrong_moves_and_closed_worlds_are_refused() -> None:
    one = world(8)
    with pytest.raises(InputError, match="8 new frames; 24 keys"):
        one.step("w-24")
    with pytest.raises(InputError, match="neither is given"):
        one.step()
    one.close()
    with pytest.raises(InputError, match="closed"):
        one.step("w")
