"""The environment of the true renderer is the model's in everything but the pictures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.errors import InputError
from sana_wm.models.config import StreamSettings
from tests.engine.tiny import picture, tiny_components

pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env

from sana_wm.serving.env import WorldEnv, model_env
from sana_wm.serving.env_truth import TrueWorlds

WORLDS = TrueWorlds((32, 48), samples=1)


def test_both_begin_with_the_same_picture_and_go_the_same_way() -> None:
    parts = tiny_components()
    pipe = SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings, name="tiny")
    made = model_env(pipe, plan=StreamSettings(timesteps=(1000.0, 0.0)), actions="velocities")
    true = WorldEnv(WORLDS, actions="velocities")
    assert true.observation_space == made.observation_space
    assert true.action_space == made.action_space
    first = [env.reset(seed=4)[0] for env in (made, true)]
    assert np.array_equal(*first)
    action = np.array([0, 0, 1, 0, -0.5, 0], np.float32)
    steps = [env.step(action) for env in (made, true)]
    assert np.array_equal(steps[0][4]["c2w"], steps[1][4]["c2w"])
    assert not np.array_equal(steps[0][0], steps[1][0])


def test_gymnasium_finds_nothing_to_complain_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(WorldEnv(WORLDS, frames="all"), skip_render_check=True)


@pytest.mark.parametrize(
    "options", [{"image": picture(), "prompt": "a hill"}, {"fov": 60}], ids=["a picture", "a lens"]
)
def test_a_picture_of_which_no_scene_is_known_is_refused(options: dict[str, Any]) -> None:
    env = WorldEnv(WORLDS)
    with pytest.raises(InputError, match="no scene is known"):
        env.reset(seed=0, options=options)


def test_worlds_that_draw_the_last_frame_only_have_no_others_to_show() -> None:
    worlds = TrueWorlds((32, 48), samples=1, last_only=True)
    last, every = WorldEnv(worlds), WorldEnv(worlds, frames="all")
    for env in (last, every):
        env.reset(seed=0)
    assert last.step(1)[0].shape == (32, 48, 3)
    with pytest.raises(InputError, match="frames must be 'last'"):
        every.step(1)
