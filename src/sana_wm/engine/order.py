"""One video as somebody asks for it: the flags of `sana-wm generate`, or a line of a file of jobs."""

from __future__ import annotations

from dataclasses import dataclass

from sana_wm.engine.mp4 import check_fps
from sana_wm.engine.pipeline import DEFAULT_SEED, noise_generator
from sana_wm.engine.preprocess import check_num_frames
from sana_wm.engine.sampling_plan import check_sampling


@dataclass(frozen=True)
class VideoOrder:
    """Names, units and defaults are those of the flags; None comes from the model, or from the example.

    `image`, `camera` and `intrinsics` are names of files; `prompt` is the text itself.
    """

    image: str | None = None
    prompt: str | None = None
    action: str | None = None
    camera: str | None = None
    intrinsics: str | None = None
    fov: float | None = None
    translation_speed: float | None = None
    rotation_speed_deg: float | None = None
    num_frames: int | None = None
    step: int | None = None
    cfg_scale: float | None = None
    flow_shift: float | None = None
    seed: int = DEFAULT_SEED
    negative_prompt: str = ""
    name: str | None = None
    fps: int | None = None
    overlay: bool = False


def check_numbers(order: VideoOrder) -> None:
    """Refuse numbers out of range.

    Raises:
        InputError: one is.
    """
    check_sampling(order.step, order.cfg_scale, order.flow_shift)
    noise_generator(order.seed)
    if order.num_frames is not None:
        check_num_frames(order.num_frames)
    if order.fps is not None:
        check_fps(order.fps)
