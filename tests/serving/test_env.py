"""The environment shows what the engine makes, says what is wrong, and is one that Gymnasium takes."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sana_wm.checkpoints.save import save_pretrained
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.sidecar import frames_sha256
from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.geometry.twists import carried
from sana_wm.models.config import ChunkSettings, StreamSettings
from tests.engine.tiny import picture, tiny_components

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from sana_wm.serving.env import Seen, WorldEnv, model_env, shared_pipeline  # noqa: E402
from sana_wm.serving.env_actions import KEY_ACTIONS, KeyActions  # noqa: E402
from sana_wm.serving.env_starts import ProceduralStarts, Start  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
FAST = StreamSettings(timesteps=(1000.0, 500.0, 0.0), chunks=ChunkSettings(window=2, sink=True))
TURN = ("a", "none", "d")


@pytest.fixture(scope="module")
def pipe() -> SanaWMPipeline:
    parts = tiny_components()
    return SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings, name="tiny")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_pretrained(folder, tiny_components())
    return str(folder)


def a_street(seed: int) -> Start:
    return Start(picture(48, 32), "a street", fov=70.0)


def env_of(pipe: SanaWMPipeline, **changes: Any) -> WorldEnv:
    return model_env(pipe, **{"plan": FAST, "starts": a_street, "max_chunks": 3} | changes)


def world_of(pipe: SanaWMPipeline, seed: int) -> World:
    return World.begin(pipe, picture(48, 32), "a street", fov=70.0, seed=seed, plan=FAST)


def test_keys_show_the_frames_that_the_world_makes_of_them(pipe: SanaWMPipeline) -> None:
    env = env_of(pipe, frames="all")
    numbers = [KEY_ACTIONS.index(keys) for keys in ("wd", "none", "a")]
    first, info = env.reset(seed=7)
    assert first.shape == (24, 32, 48, 3)
    assert (first == np.asarray(picture(48, 32))).all()
    assert info["seed"] == 7
    seen = np.concatenate([env.step(number)[0] for number in numbers])
    world = world_of(pipe, 7)
    made = np.concatenate([world.step("wd")[1:], world.step("none"), world.step("a")])
    assert frames_sha256(seen) == frames_sha256(made)


def test_the_last_frame_of_a_step_is_the_last_of_all(pipe: SanaWMPipeline) -> None:
    last, every = env_of(pipe), env_of(pipe, frames="all")
    last.reset(seed=1)
    every.reset(seed=1)
    for action in (1, 4):
        assert np.array_equal(last.step(action)[0], every.step(action)[0][-1])


def test_velocities_are_poses_in_the_cameras_own_axes(pipe: SanaWMPipeline) -> None:
    env = env_of(pipe, actions="velocities", frames="all", translation_speed=0.04, rotation_speed_deg=1.0)
    env.reset(seed=3)
    action = np.array([0.5, 0, 1, -0.25, 1, 0], np.float32)
    frames, _, _, _, info = env.step(action)
    velocity = torch.tensor([0.02, 0, 0.04, math.radians(-0.25), math.radians(1.0), 0], dtype=torch.float64)
    path = carried(torch.eye(4), velocity, 24)
    assert np.allclose(info["c2w"], path[-1].numpy(), atol=1e-6)
    assert frames_sha256(frames) == frames_sha256(world_of(pipe, 3).step(poses=path)[1:])


def test_an_episode_ends_by_truncation_and_not_before(pipe: SanaWMPipeline) -> None:
    env = env_of(pipe, max_chunks=2)
    env.reset(seed=0)
    ends = [env.step(0)[2:] for _ in range(2)]
    assert [(terminated, truncated, info["chunk"]) for terminated, truncated, info in ends] == [
        (False, False, 1),
        (False, True, 2),
    ]
    with pytest.raises(InputError, match="over after 2 chunks; call reset"):
        env.step(0)
    env.reset(seed=0)
    assert env.step(0)[4]["chunk"] == 1


def test_the_reward_is_a_function_of_what_a_step_showed(pipe: SanaWMPipeline) -> None:
    steps: list[Seen] = []

    def turned_right(seen: Seen) -> float:
        steps.append(seen)
        return float(seen.c2w[0, 2])

    env = env_of(pipe, actions=TURN, reward=turned_right)
    env.reset(seed=0)
    observed, reward, *_ = env.step(2)
    assert reward == pytest.approx(math.sin(math.radians(24 * 0.6)), abs=1e-4)
    (seen,) = steps
    assert (seen.action, seen.chunk, seen.start.prompt, len(seen.frames)) == (2, 1, "a street", 24)
    assert np.array_equal(seen.frames[-1], observed)


def test_a_reset_without_seed_draws_one_that_the_last_seed_decides(pipe: SanaWMPipeline) -> None:
    one, other = env_of(pipe), env_of(pipe)
    for env in (one, other):
        env.reset(seed=5)
    seeds = [env.reset()[1]["seed"] for env in (one, other, one)]
    assert seeds[0] == seeds[1] != seeds[2]
    assert one.reset(seed=seeds[0])[1]["seed"] == seeds[0]


def test_procedural_scenes_differ_by_seed_and_their_lens_is_known(pipe: SanaWMPipeline) -> None:
    env = env_of(pipe, starts="procedural")
    first, info = env.reset(seed=1)
    again, other = env.reset(seed=1)[0], env.reset(seed=2)[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    start = ProceduralStarts((32, 48))(1)
    assert np.array_equal(first, start.image)
    assert info["prompt"] == start.prompt
    assert start.scene is not None
    assert float(np.asarray(start.intrinsics)[0]) == pytest.approx(24 / math.tan(math.radians(start.scene.lens) / 2))


def test_options_take_the_place_of_the_start(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    env = env_of(pipe)
    file = tmp_path / "photo.png"
    picture(96, 64).save(file)
    observed, info = env.reset(seed=0, options={"image": file, "prompt": "a hill", "intrinsics": [60, 60, 48, 32]})
    assert info["prompt"] == "a hill"
    assert np.array_equal(observed, np.asarray(Image.open(file).resize((48, 32), Image.Resampling.LANCZOS)))
    world = World.begin(pipe, file, "a hill", intrinsics=[60, 60, 48, 32], seed=0, plan=FAST)
    assert np.array_equal(env.step(1)[0], world.step("w")[-1])
    wide = World.begin(pipe, picture(48, 32), "a street", fov=100, seed=0, plan=FAST)
    env.reset(seed=0, options={"fov": 100})
    assert np.array_equal(env.step(1)[0], wide.step("w")[-1])


def test_a_reset_that_fails_leaves_the_world_there(pipe: SanaWMPipeline) -> None:
    env, other = env_of(pipe), env_of(pipe)
    for each in (env, other):
        each.reset(seed=0)
        each.step(1)
    with pytest.raises(InputError):
        env.reset(options={"image": "nowhere.png", "prompt": "a hill"})
    assert np.array_equal(env.step(1)[0], other.step(1)[0])


def test_worlds_beside_each_other_share_the_model_and_nothing_else(pipe: SanaWMPipeline) -> None:
    several = gymnasium.vector.SyncVectorEnv([lambda: env_of(pipe, actions=TURN) for _ in range(2)])
    assert several.envs[0].unwrapped.worlds.pipe is several.envs[1].unwrapped.worlds.pipe
    several.reset(seed=[3, 4])
    moves = [(0, 2), (1, 0)]
    seen = [several.step(np.array(pair))[0] for pair in moves]
    for number, seed in enumerate((3, 4)):
        alone = env_of(pipe, actions=TURN)
        alone.reset(seed=seed)
        for pair, observed in zip(moves, seen, strict=True):
            assert np.array_equal(alone.step(pair[number])[0], observed[number])


@pytest.mark.parametrize("actions", ["keys", "velocities"])
def test_gymnasium_finds_nothing_to_complain_about(model: str, actions: str) -> None:
    env = gymnasium.make(
        "SanaWM/Nano-v0", model=model, plan=FAST, actions=actions, starts=a_street, render_mode="rgb_array"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    observed, _ = env.reset(seed=0)
    assert np.array_equal(env.render(), observed)
    observed, *_ = env.step(env.action_space.sample())
    assert np.array_equal(env.render(), observed)
    env.close()


def test_environments_made_by_name_share_one_model(model: str) -> None:
    several = gymnasium.make_vec("SanaWM/Nano-v0", num_envs=2, vectorization_mode="sync", model=model, plan=FAST)
    pipes = {id(env.unwrapped.worlds.pipe) for env in several.envs}
    assert pipes == {id(shared_pipeline(model))}
    assert several.reset(seed=0)[0].shape == (2, 32, 48, 3)


def test_importing_the_room_makes_the_name_known_and_loads_no_engine() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "import gymnasium, sana_wm.serving\n"
        "print(gymnasium.spec('SanaWM/Nano-v0').entry_point, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "sana_wm.serving.env:model_env False", result.stderr


def test_without_gymnasium_the_extra_is_named() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); sys.modules['gymnasium'] = None\n"
        "from sana_wm.errors import InputError\n"
        "import sana_wm.serving\n"
        "try:\n    import sana_wm.serving.env\n"
        "except InputError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "needs the package gymnasium" in result.stdout, result.stderr
    assert "[gym]" in result.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": "jump"}, "actions is 'jump'; it must be 'keys', 'velocities'"),
        ({"actions": ["w", "x"]}, "unknown keys 'x'"),
        ({"actions": []}, "empty list of keys"),
        ({"frames": "some"}, "frames is 'some'"),
        ({"max_chunks": 0}, "max_chunks is 0"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
        ({"starts": "doom"}, "starts is 'doom'"),
        ({"rotation_speed_deg": 400.0}, "rotation_speed_deg is 400"),
        ({"device": "cpu"}, "the model is loaded already"),
        ({"plan": StreamSettings(chunks=ChunkSettings(strategy="uniform"))}, "the chunks of a stream begin by"),
    ],
)
def test_wrong_arguments_are_named(pipe: SanaWMPipeline, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        env_of(pipe, **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"picture": "x.png"}, "options hold 'picture'; known are image"),
        ({"image": picture()}, "an image but no prompt"),
        ({"fov": 60, "intrinsics": [40, 40, 24, 16]}, "give one of them"),
        ({"prompt": "  "}, "the prompt is empty"),
    ],
)
def test_wrong_options_are_named(pipe: SanaWMPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        env_of(pipe).reset(seed=0, options=options)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_wrong_seed_is_named(pipe: SanaWMPipeline, seed: int) -> None:
    with pytest.raises(InputError, match=f"seed is {seed}"):
        env_of(pipe).reset(seed=seed)


@pytest.mark.parametrize("action", [-1, 3, 1.0, None, [0, 1]])
def test_a_number_that_names_no_keys_is_refused(pipe: SanaWMPipeline, action: Any) -> None:
    env = env_of(pipe, actions=TURN)
    env.reset(seed=0)
    with pytest.raises(InputError, match="whole number from 0 to 2"):
        env.step(action)


@pytest.mark.parametrize("action", [[0.0] * 5, [2.0] + [0.0] * 5, [math.nan] * 6, "w"])
def test_a_velocity_out_of_bounds_is_refused(pipe: SanaWMPipeline, action: Any) -> None:
    env = env_of(pipe, actions="velocities")
    env.reset(seed=0)
    with pytest.raises(InputError, match="6 numbers from -1 to 1: right, down, forward"):
        env.step(action)


def test_a_reward_that_is_no_number_is_refused(pipe: SanaWMPipeline) -> None:
    env = env_of(pipe, reward=lambda seen: math.nan)
    env.reset(seed=0)
    with pytest.raises(InputError, match="the reward after chunk 1 is nan"):
        env.step(0)


def test_nothing_happens_before_a_reset_or_after_the_end(pipe: SanaWMPipeline) -> None:
    env = env_of(pipe, render_mode="rgb_array")
    for act in (lambda: env.step(0), env.render):
        with pytest.raises(InputError, match="call reset first"):
            act()
    env.reset(seed=0)
    env.close()
    with pytest.raises(InputError, match="call reset first"):
        env.step(0)


def test_every_key_of_the_usual_actions_moves_the_camera_its_own_way(pipe: SanaWMPipeline) -> None:
    ends = set()
    for number in range(KeyActions().space.n):
        env = env_of(pipe)
        env.reset(seed=0)
        ends.add(env.step(number)[4]["c2w"].round(4).tobytes())
    assert len(ends) == len(KEY_ACTIONS)
