"""What a session has done for it off the event loop: its picture fitted to the model, a chunk, and the chunk packed."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sana_wm.engine.example import load_example
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.world import World
from sana_wm.serving.clip import encode_pictures
from sana_wm.serving.limits import Limits
from sana_wm.serving.messages import FrameKeys, Init
from sana_wm.serving.pictures import decode_picture
from sana_wm.serving.walk import Beginning, chunk_hash


@dataclass(frozen=True)
class Made:
    """A chunk, the world after it, and how long its parts took.

    Attributes:
        frames: (n,H,W,3). c2w: (n,4,4). begins: of `time.perf_counter`. denoise: with remembering the chunk before.
    """

    world: World
    frames: npt.NDArray[np.uint8]
    c2w: Tensor
    begins: float
    denoise: float
    decode: float


def make_chunk(parent: World, keys: FrameKeys) -> Made:
    """On the model's thread: one step of the engine from `parent`, which stays where it is."""
    begins = time.perf_counter()
    denoised = begins

    def note(stage: str, done: int, total: int) -> None:
        nonlocal denoised
        if stage == "decode" and done == 0:
            denoised = time.perf_counter()

    parent.remember()  # kept if the step is cancelled, and for other ways from here
    world = parent.fork()
    motion = world.state.motion.copy()
    still = [motion.c2w] if world.chunk == 0 else []
    c2w = torch.stack([*still, *(motion.step(held) for held in keys)])
    frames = world.step(keys, progress=note)
    return Made(world, frames, c2w, begins, denoised - begins, time.perf_counter() - denoised)


def fit_beginning(pipe: SanaWMPipeline, init: Init, limits: Limits) -> tuple[Beginning, npt.NDArray[np.uint8]]:
    """The guest's picture, or the example's, unpacked and fitted to the model, and as a video (1,H,W,3).

    Raises:
        InputError: something in `init` is wrong.
    """
    fov, intrinsics = init.fov, init.intrinsics
    if init.first_frame is None:
        example = load_example()
        image: Any = example.image
        prompt = example.prompt if init.prompt is None else init.prompt
        if fov is None and intrinsics is None:
            fov, intrinsics = example.fov, example.intrinsics
    else:
        image, prompt = decode_picture(init.first_frame, limits), init.prompt or ""
    begins = Beginning.of(
        pipe, image, prompt, seed=init.seed, fov=fov, intrinsics=intrinsics,
        translation_speed=init.translation_speed, rotation_speed_deg=init.rotation_speed_deg,
    )  # fmt: skip
    return begins, np.asarray(Image.open(io.BytesIO(begins.picture)))[None]


def pack_frames(frames: npt.NDArray[np.uint8], encoding: str) -> tuple[list[bytes], str]:
    """A chunk as it is sent, and the hash of its frames."""
    return encode_pictures(frames, encoding), chunk_hash(frames)


def top_view(c2w: Tensor) -> list[list[float]]:
    """Of poses (n,4,4): to the right, ahead, and the heading in radians (0 ahead, growing to the right), rounded."""
    z = c2w[:, :3, 2]
    rows = zip(c2w[:, 0, 3], c2w[:, 2, 3], z[:, 0].atan2(z[:, 2]), strict=True)
    return [[round(float(number), 4) for number in row] for row in rows]
