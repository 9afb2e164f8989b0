"""From what a user gives to :class:`Conditions`, in two steps (spec 30 section 2).

:func:`check_request` does everything that needs no model, so that wrong input stops before weights are loaded or
downloaded; :func:`make_conditions` fits the result to a model's picture size and frame count.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sana_wm.engine.conditions import Conditions, IntrinsicsSource
from sana_wm.engine.image_input import ImageSource, read_image
from sana_wm.errors import InputError
from sana_wm.geometry.actions import DEFAULT_ROTATION_SPEED_DEG, DEFAULT_TRANSLATION_SPEED, rollout
from sana_wm.geometry.intrinsics import (
    DEFAULT_FOV_DEG,
    as_vec4,
    check_fov,
    crop_plan,
    default_intrinsics,
    fov_degrees,
    image_tensor,
)
from sana_wm.geometry.poses import check_poses, relative_to_first, snap_num_frames
from sana_wm.models.config import PipelineSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """What a video is asked for with, apart from the picture's pixels; checked.

    Attributes:
        prompt: text without outer blanks, not empty; negative_prompt: may be empty.
        c2w: (N,4,4) float32, the whole camera path.
        intrinsics: in a form of :func:`~sana_wm.geometry.intrinsics.as_vec4`, pixels of the picture.
        intrinsics_source: where they come from.
    """

    prompt: str
    negative_prompt: str
    c2w: Tensor
    intrinsics: Tensor | npt.ArrayLike
    intrinsics_source: IntrinsicsSource


@dataclass(frozen=True)
class Request(Terms):
    """Checked input that does not depend on a model; `image` is an upright RGB picture."""

    image: Image.Image


def check_request(
    image: ImageSource,
    prompt: str,
    *,
    action: str | None = None,
    c2w: Tensor | npt.NDArray | None = None,
    intrinsics: Tensor | npt.ArrayLike | None = None,
    fov: float | None = None,
    negative_prompt: str = "",
    translation_speed: float = DEFAULT_TRANSLATION_SPEED,
    rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG,
    intrinsics_source: IntrinsicsSource = "given",
) -> Request:
    """Check and read everything a video is asked for with; see :meth:`SanaWMPipeline.__call__` for the arguments.

    `intrinsics_source` is what `intrinsics`, if given, are put down as. Logs a warning if the field of view is assumed.

    Raises:
        InputError: something is wrong; the sentence says what.
    """
    picture = read_image(image)
    terms = check_terms(
        picture.size, prompt, action=action, c2w=c2w, intrinsics=intrinsics, fov=fov, negative_prompt=negative_prompt,
        translation_speed=translation_speed, rotation_speed_deg=rotation_speed_deg, intrinsics_source=intrinsics_source,
    )  # fmt: skip
    if terms.intrinsics_source == "default":
        across, down = fov_degrees(torch.as_tensor(terms.intrinsics), picture.size).tolist()
        logger.warning(
            "no intrinsics given; %g degrees along the image's longer side are assumed (%.0f across, %.0f down)",
            DEFAULT_FOV_DEG,
            across,
            down,
        )
    return Request(**vars(terms), image=picture)


def check_terms(
    size: tuple[int, int],
    prompt: str,
    *,
    action: str | None = None,
    c2w: Tensor | npt.NDArray | None = None,
    intrinsics: Tensor | npt.ArrayLike | None = None,
    fov: float | None = None,
    negative_prompt: str = "",
    translation_speed: float = DEFAULT_TRANSLATION_SPEED,
    rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG,
    intrinsics_source: IntrinsicsSource = "given",
) -> Terms:
    """As :func:`check_request`, for a picture of which only width and height are known yet."""
    path = _camera_path(action, c2w, translation_speed, rotation_speed_deg)
    if intrinsics is not None and fov is not None:
        raise InputError(f"intrinsics and a field of view ({fov:g} degrees) are both given; give one of them.")
    if intrinsics is not None:
        check_fov(as_vec4(intrinsics, len(path)), size)
    else:
        intrinsics = default_intrinsics(size, fov)
        intrinsics_source = "default" if fov is None else "field of view"
    return Terms(_prompt(prompt), negative_prompt.strip(), path, intrinsics, intrinsics_source)


def _camera_path(
    action: str | None, c2w: Tensor | npt.NDArray | None, translation_speed: float, rotation_speed_deg: float
) -> Tensor:
    if (action is None) == (c2w is None):
        found = "neither is given" if action is None else "both are given"
        raise InputError(f"the camera path comes from an action string or from poses, but {found}; give one of them.")
    if action is not None:
        return rollout(action, translation_speed=translation_speed, rotation_speed_deg=rotation_speed_deg)
    if (translation_speed, rotation_speed_deg) != (DEFAULT_TRANSLATION_SPEED, DEFAULT_ROTATION_SPEED_DEG):
        raise InputError("translation_speed and rotation_speed_deg are for action strings; poses move as they are.")
    assert c2w is not None
    return check_poses(c2w).detach().cpu()


def _prompt(prompt: str) -> str:
    text = prompt.strip()
    if not text:
        raise InputError("the prompt is empty; describe the scene in a sentence.")
    return text


def make_conditions(
    request: Request, settings: PipelineSettings, num_frames: int | None = None, stride: int = 8
) -> Conditions:
    """Fit a request to a model: frames snapped to stride * k + 1, picture and intrinsics scaled and cropped.

    `num_frames` None asks for the model's own number. Logs a warning where the video gets another length than was
    asked for.

    Raises:
        InputError: `num_frames` is below 1.
    """
    requested = settings.num_frames if num_frames is None else num_frames
    available = len(request.c2w)
    check_num_frames(requested)
    used = snap_num_frames(requested, available, stride)
    if num_frames is not None and used != requested:
        why = f"the camera path has {available} poses and " if available < requested else ""
        logger.warning(
            "the video gets %d frames, not the %d requested: %sits length must be %dk + 1", used, requested, why, stride
        )
    elif num_frames is None and available > used and requested < available:
        logger.warning("the camera path has %d poses, of which %d are used; ask for more frames", available, used)

    target_hw = (settings.height, settings.width)
    plan = crop_plan(request.image.size, target_hw)
    source_intrinsics = as_vec4(request.intrinsics, used)
    return Conditions(
        image=image_tensor(plan.apply(request.image)),
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        c2w=relative_to_first(request.c2w[:used]),
        intrinsics=plan.intrinsics(source_intrinsics),
        height=settings.height,
        width=settings.width,
        num_frames=used,
        frames_requested=requested,
        frames_available=available,
        intrinsics_source=request.intrinsics_source,
        source_wh=request.image.size,
        source_intrinsics=source_intrinsics[0],
    )


def check_num_frames(num_frames: int) -> None:
    """Refuse a number of frames below 1."""
    if num_frames < 1:
        raise InputError(f"num_frames is {num_frames}; it must be at least 1.")
