"""A world that is made while one moves through it: begin with a picture, step by step, fork, save, come back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.engine.chunk_stages import ChunkStages, Move
from sana_wm.engine.conditions import Conditions
from sana_wm.engine.image_input import ImageSource
from sana_wm.engine.named_stage import named_stage
from sana_wm.engine.pipeline import SanaWMPipeline, noise_generator
from sana_wm.engine.preprocess import check_request
from sana_wm.engine.progress import Progress
from sana_wm.engine.stream_plan import checked, plan_stream
from sana_wm.engine.world_file import load_state, save_state
from sana_wm.engine.world_state import WorldState
from sana_wm.errors import InputError
from sana_wm.geometry.actions import (
    DEFAULT_ROTATION_SPEED_DEG,
    DEFAULT_TRANSLATION_SPEED,
    CameraMotion,
    MotionRules,
    parse_actions,
)
from sana_wm.geometry.poses import check_poses, warn_large_steps
from sana_wm.models.config import StreamSettings
from sana_wm.sampling import needs_uncond

Keys = str | Sequence[Collection[str]]
"""What is held during a chunk: the same keys all the time ("wd", "" for none), an action string as long as the chunk
("w-10,dw-14"), or the keys of every frame."""


class World:
    """A video that goes on for as long as somebody asks for more of it.

        with World.begin(pipe, "street.png", "a quiet street at dusk", fov=70) as world:
            frames = world.step("w")            # (25,H,W,3): the picture, and 24 frames walking forward
            frames = world.step("w-12,dw-12")   # (24,H,W,3)

    What a step gives is decided by what the world began with, its seed and the moves so far, not by when or how it is
    asked, so a saved, a forked and an uninterrupted world give the same frames. A step that fails or is interrupted
    leaves the world as it was. Not for two threads at once.
    """

    def __init__(
        self, pipe: SanaWMPipeline, plan: StreamSettings, state: WorldState, stages: ChunkStages | None = None
    ) -> None:
        """stages: those of another world of the same model and plan."""
        self.pipe, self.plan = pipe, plan
        size = pipe.settings.height, pipe.settings.width
        self.stages = stages or ChunkStages(pipe.transformer, pipe.codec, size, plan)
        self._state: WorldState | None = state

    @classmethod
    def begin(
        cls,
        pipe: SanaWMPipeline,
        image: ImageSource,
        prompt: str,
        *,
        intrinsics: Tensor | npt.ArrayLike | None = None,
        fov: float | None = None,
        seed: int | None = None,
        negative_prompt: str = "",
        translation_speed: float = DEFAULT_TRANSLATION_SPEED,
        rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG,
        plan: StreamSettings | None = None,
    ) -> World:
        """A world that so far is one picture; see :meth:`SanaWMPipeline.__call__` for the arguments.

        intrinsics: of one frame, in pixels of the upright image. seed: None is 42. plan: None is the model's own.

        Raises:
            InputError: something in the arguments is wrong, or the model's codec cannot stream.
            GenerationError: the picture's latents are not finite.
        """
        if intrinsics is not None:
            _check_one(intrinsics)
        still = torch.eye(4)[None]
        request = check_request(
            image, prompt, c2w=still, intrinsics=intrinsics, fov=fov, negative_prompt=negative_prompt
        )
        rules = MotionRules(translation_speed, rotation_speed_deg)
        return cls.of(pipe, pipe.prepare(request, 1), seed=seed, rules=rules, plan=plan)

    @classmethod
    @torch.inference_mode()
    def of(
        cls,
        pipe: SanaWMPipeline,
        conditions: Conditions,
        *,
        seed: int | None = None,
        rules: MotionRules | None = None,
        plan: StreamSettings | None = None,
    ) -> World:
        """A world that begins with checked input, of whose path only the first frame counts."""
        plan = plan_stream(pipe.settings) if plan is None else checked(plan)
        pipe.codec.check_streams()
        seed = noise_generator(seed).initial_seed()
        image = conditions.image
        with named_stage("encode"):
            first = pipe.encode_image(image)
            negative = conditions.negative_prompt if needs_uncond(plan.guidance_scale) else None
            features, mask = pipe.encode_text(conditions.prompt, negative)
        state = WorldState(
            seed=seed,
            chunk=0,
            flat=bool((image == image[:, :1, :1]).all()),
            motion=CameraMotion(rules),
            intrinsics=conditions.intrinsics[0],
            features=features,
            mask=mask,
            first=first,
        )
        return cls(pipe, plan, state)

    def step(
        self,
        keys: Keys | None = None,
        *,
        poses: Tensor | npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The next chunk: frames (24,H,W,3), the first time 25 with the given picture in front.

        Args:
            keys: held while it is made; or instead of them
            poses: camera-to-world matrices (24,4,4) of the new frames, OpenCV axes, relative to the first frame of the
                world. Keys afterwards go on from the last of them, from rest.
            progress: called with ("denoise", steps done, steps) and ("decode", frames done, frames). Whatever it
                raises ends the step and leaves the world as it was.

        Raises:
            InputError: the keys or poses are wrong, or the world is closed.
            GenerationError: the model made something that is no video; stage and chunk are named.
        """
        state = self.state
        move = self._move(state, keys, poses)
        report = progress or (lambda stage, done, total: None)
        latents, after = self.stages.denoise(state, move, lambda step, steps, latents: report("denoise", step, steps))
        report("decode", 0, self.frames_a_step)
        frames, after = self.stages.decode(latents, after, state.tails)
        report("decode", self.frames_a_step, self.frames_a_step)
        self._state = after
        return frames

    def remember(self) -> None:
        """Do now what the next step would begin with: for the time in which nobody waits. It changes no frame."""
        self._state = self.stages.remember(self.state)

    def fork(self) -> World:
        """Another world with the same past, which goes its own way from here. It costs nothing: the past is shared."""
        return World(self.pipe, self.plan, self.state, self.stages)

    def save(self, path: str | Path, notes: Mapping[str, Any] | None = None) -> Path:
        """Write all there is to a safetensors file; it appears complete or not at all. `notes`: anything JSON can hold.

        Raises:
            InputError: the place cannot be written.
        """
        return save_state(Path(path), self.pipe, self.plan, self.state, notes)

    @classmethod
    def load(cls, pipe: SanaWMPipeline, path: str | Path) -> World:
        """The world that :meth:`save` wrote; it goes on with the frames it would have had.

        Raises:
            InputError: there is no such file, it is damaged, or it belongs to another model or number format.
        """
        plan, state, _ = load_state(Path(path), pipe)
        return cls(pipe, plan, state)

    def close(self) -> None:
        """Free what the world holds; it cannot go on after this."""
        self._state = None

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> WorldState:
        """Everything the world is now; nothing changes it."""
        if self._state is None:
            raise InputError("this world is closed; begin or load another one.")
        return self._state

    @state.setter
    def state(self, state: WorldState) -> None:
        self._state = state

    @property
    def frames_a_step(self) -> int:
        """New frames of a step: 24 unless the model's settings say otherwise."""
        return self.stages.frames_a_chunk

    @property
    def chunk(self) -> int:
        """Steps made so far."""
        return self.state.chunk

    @property
    def num_frames(self) -> int:
        """Frames of the whole video so far, the picture at its beginning among them."""
        return self.num_frames_after(self.chunk)

    def num_frames_after(self, chunks: int) -> int:
        """Frames of the whole video after so many steps."""
        return 1 + chunks * self.frames_a_step

    @property
    def c2w(self) -> Tensor:
        """Pose (4,4) of the last frame, relative to the first one."""
        return self.state.motion.c2w

    def _move(self, state: WorldState, keys: Keys | None, poses: Tensor | npt.NDArray[Any] | None) -> Move:
        c2w, motion = led(state.motion, self.frames_a_step, keys, poses)
        return Move(c2w, state.intrinsics.expand(len(c2w), 4), motion)


def led(
    motion: CameraMotion, count: int, keys: Keys | None, poses: Tensor | npt.NDArray[Any] | None
) -> tuple[Tensor, CameraMotion]:
    """Where a camera is in the next `count` frames (count,4,4), and how it moves after them, from keys or poses.

    Raises:
        InputError: both or neither are given, they are wrong, or they are of another number of frames.
    """
    if (keys is None) == (poses is None):
        found = "neither is" if keys is None else "both are"
        raise InputError(f"a step goes where keys or poses lead, but {found} given; give one of them.")
    if poses is not None:
        c2w = check_poses(poses, "poses").detach().cpu()
        warn_large_steps(torch.cat([motion.c2w[None], c2w]), "poses")  # if they are relative to another frame
        motion = motion.placed(c2w[-1])
    else:
        assert keys is not None
        held = keys_of_frames(keys, count)
        motion = motion.copy()
        c2w = torch.stack([motion.step(keys) for keys in held]) if held else torch.empty(0, 4, 4)
    if len(c2w) != count:
        kind = "keys" if poses is None else "poses"
        raise InputError(f"a step has {count} new frames; {len(c2w)} {kind} are given.")
    return c2w, motion


def keys_of_frames(keys: Keys, count: int) -> Sequence[Collection[str]]:
    """The keys held in each frame; the same for all `count` of them if `keys` does not say how long."""
    if not isinstance(keys, str):
        return keys
    if "-" in keys:
        return parse_actions(keys)
    word = keys.strip()
    return [frozenset() if word.lower() == "none" else frozenset(word)] * count


def _check_one(intrinsics: Tensor | npt.ArrayLike) -> None:
    """Refuse intrinsics of many frames: nobody knows yet how many a world will have."""
    shape = tuple(np.shape(intrinsics))
    if (len(shape) == 3 or (len(shape) == 2 and shape != (3, 3))) and shape[0] > 1:
        raise InputError(f"intrinsics has the shape {shape}; a world has one lens, (4,) or (3,3).")
