"""A world as a Gymnasium environment: an agent moves, a chunk of video is what it sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch

from sana_wm.engine.image_input import read_image
from sana_wm.engine.pipeline import SanaWMPipeline, noise_generator
from sana_wm.engine.stream_plan import checked, plan_stream
from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.geometry.actions import DEFAULT_ROTATION_SPEED_DEG, DEFAULT_TRANSLATION_SPEED, MotionRules
from sana_wm.geometry.intrinsics import crop_plan
from sana_wm.models.config import StreamSettings
from sana_wm.serving.env_actions import Walk, actions_of
from sana_wm.serving.env_starts import Start, Starts, check_options, starts_of
from sana_wm.serving.gymnasium_module import gymnasium

Frames = npt.NDArray[np.uint8]


class Worlds(Protocol):
    """Where worlds come from, all of one size (height, width), frame rate and length of a step."""

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def fps(self) -> int: ...

    @property
    def frames_a_step(self) -> int: ...

    def begin(self, start: Start, seed: int, rules: MotionRules) -> Walk: ...


@dataclass(frozen=True)
class ModelWorlds:
    """Worlds that a model makes up; they share it."""

    pipe: SanaWMPipeline
    plan: StreamSettings

    @property
    def size(self) -> tuple[int, int]:
        return self.pipe.settings.height, self.pipe.settings.width

    @property
    def fps(self) -> int:
        return self.pipe.settings.fps

    @property
    def frames_a_step(self) -> int:
        return self.plan.chunks.size * self.pipe.codec.temporal_stride

    def begin(self, start: Start, seed: int, rules: MotionRules) -> World:
        return World.begin(
            self.pipe,
            start.image,
            start.prompt,
            intrinsics=start.intrinsics,
            fov=start.fov,
            seed=seed,
            translation_speed=rules.translation_speed,
            rotation_speed_deg=rules.rotation_speed_deg,
            plan=self.plan,
        )


@dataclass(frozen=True)
class Seen:
    """What a reward is about: one step.

    Attributes:
        frames: (n,H,W,3) uint8, the new ones.
        c2w: (4,4) float32, pose of the last of them relative to the first frame of the episode.
        action: what was done.
        chunk: steps of the episode so far, this one among them.
        start: with what it began.
    """

    frames: Frames
    c2w: npt.NDArray[np.float32]
    action: Any
    chunk: int
    start: Start


Reward = Callable[[Seen], float]


def no_reward(seen: Seen) -> float:
    """0: the environment has no aim of its own."""
    return 0.0


class WorldEnv(gymnasium.Env[Any, Any]):
    """An episode is a world, a step is a chunk of it.

    Args:
        worlds: where the worlds come from.
        actions: "keys" (Discrete, :data:`~sana_wm.serving.env_actions.KEY_ACTIONS`), a list of keys of one's own
            (["a", "none", "d"]), or "velocities" (Box of six numbers from -1 to 1,
            :data:`~sana_wm.serving.env_actions.VELOCITIES`).
        frames: what is observed: the "last" frame of a step (H,W,3), or "all" of them (n,H,W,3). After a reset
            the picture, in the second case n times.
        max_chunks: an episode is cut off (truncated) after so many steps.
        starts: "procedural" (a scene for every seed), "example", or a function from a seed to a :class:`Start`.
        reward: a function of what a step showed.
        translation_speed, rotation_speed_deg: of keys and of velocities of 1, units and degrees a frame.

    The seed of a reset is the seed of the start and of the world's noise, so the same seed and actions give the frames
    of :meth:`World.step`; a reset without seed draws one. `options` of a reset: "image", "prompt", "intrinsics" or
    "fov", in place of those of the start. `info`: the seed, the pose `c2w` of the last frame, the number of chunks.

    Raises:
        InputError: here and in all methods, if something given is wrong.
    """

    start: Start | None
    """With what the episode began."""

    def __init__(
        self,
        worlds: Worlds,
        *,
        actions: str | Sequence[str] = "keys",
        frames: Literal["last", "all"] = "last",
        max_chunks: int = 8,
        starts: str | Starts = "procedural",
        reward: Reward = no_reward,
        translation_speed: float = DEFAULT_TRANSLATION_SPEED,
        rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG,
        render_mode: str | None = None,
    ) -> None:
        if frames not in ("last", "all"):
            raise InputError(f"frames is {frames!r}; it must be 'last' or 'all'.")
        if max_chunks < 1:
            raise InputError(f"max_chunks is {max_chunks}; it must be at least 1.")
        if render_mode not in (None, "rgb_array"):
            raise InputError(f"render_mode is {render_mode!r}; it must be 'rgb_array' or None.")
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": worlds.fps}
        self.render_mode = render_mode
        self.worlds, self.max_chunks, self.reward = worlds, max_chunks, reward
        self.rules = MotionRules(translation_speed, rotation_speed_deg)
        self.starts = starts_of(starts, worlds.size)
        self.actions = actions_of(actions, self.rules)
        self.action_space = self.actions.space
        self.all_frames = frames == "all"
        shape = (*((worlds.frames_a_step,) if self.all_frames else ()), *worlds.size, 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.start = None
        self._walk: Walk | None = None
        self._last: Frames | None = None
        self._chunk = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Frames, dict[str, Any]]:
        """Begin a new world; the observation is its picture. If that fails, the old one is still there."""
        check_options(options or {})
        noise_generator(seed)  # names a seed that is none
        super().reset(seed=seed)
        chosen = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        start = self.starts(chosen).changed(options or {})
        image = read_image(start.image)
        walk = self.worlds.begin(replace(start, image=image), chosen, self.rules)
        picture = np.asarray(crop_plan(image.size, self.worlds.size).apply(image))
        self.close()
        self._walk, self.start, self._chunk, self._last = walk, start, 0, picture.copy()
        observed = np.stack([picture] * self.worlds.frames_a_step) if self.all_frames else picture.copy()
        return observed, self._info(self._walk) | {"seed": chosen, "prompt": start.prompt}

    def step(self, action: Any) -> tuple[Frames, float, bool, bool, dict[str, Any]]:
        """Go on by one chunk."""
        if self._walk is None or self.start is None:
            raise InputError("there is no world to step in; call reset first.")
        if self._chunk >= self.max_chunks:
            raise InputError(f"the episode was over after {self.max_chunks} chunks; call reset for another one.")
        new = self.actions.take(action, self._walk)[-self.worlds.frames_a_step :]  # the first time without the picture
        if self.all_frames and len(new) != self.worlds.frames_a_step:
            raise InputError(f"these worlds show {len(new)} frame of a step; frames must be 'last', not 'all'.")
        self._chunk += 1
        self._last = new[-1].copy()
        info = self._info(self._walk)
        reward = float(self.reward(Seen(new, info["c2w"], action, self._chunk, self.start)))
        if not math.isfinite(reward):
            raise InputError(f"the reward after chunk {self._chunk} is {reward}; it must be a finite number.")
        observed = new.copy() if self.all_frames else self._last.copy()
        return observed, reward, False, self._chunk >= self.max_chunks, info

    def render(self) -> Frames | None:
        """The last frame (H,W,3) if the render mode is "rgb_array"."""
        if self.render_mode is None:
            return None
        if self._last is None:
            raise InputError("there is no world to show; call reset first.")
        return self._last.copy()

    def close(self) -> None:
        """Let go of the world; the model stays with whoever else uses it."""
        if self._walk is not None:
            self._walk.close()
        self._walk = self._last = None

    def _info(self, walk: Walk) -> dict[str, Any]:
        return {"c2w": walk.c2w.numpy().copy(), "chunk": self._chunk}


_LOADED: WeakValueDictionary[tuple[str, str, str], SanaWMPipeline] = WeakValueDictionary()


def shared_pipeline(
    model: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> SanaWMPipeline:
    """The model of this name; loaded once for all environments of a process, for as long as one of them is there."""
    key = (str(model), str(device), str(dtype))
    pipe = _LOADED.get(key)
    if pipe is None:
        pipe = _LOADED[key] = SanaWMPipeline.from_pretrained(model, device=device, dtype=dtype)
    return pipe


def model_env(
    model: str | Path | SanaWMPipeline = "nano",
    *,
    plan: StreamSettings | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    **arguments: Any,
) -> WorldEnv:
    """What `gymnasium.make("SanaWM/Nano-v0")` makes: worlds of a model.

    model: as in :meth:`SanaWMPipeline.from_pretrained`, or a loaded one (not through `gymnasium.make`, which copies
    its arguments). plan: None is the model's own way to stream. arguments: see :class:`WorldEnv`.
    """
    if isinstance(model, SanaWMPipeline):
        if device is not None or dtype is not None:
            raise InputError(f"device is {device} and dtype {dtype}, but the model is loaded already; leave both out.")
        pipe = model
    else:
        pipe = shared_pipeline(model, device, dtype)
    pipe.codec.check_streams()
    return WorldEnv(ModelWorlds(pipe, plan_stream(pipe.settings) if plan is None else checked(plan)), **arguments)
