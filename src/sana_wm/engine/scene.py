"""What is to be seen and how one moves through it, as an order says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm.engine.example import load_example
from sana_wm.engine.image_input import picture_size
from sana_wm.engine.order import VideoOrder
from sana_wm.engine.preprocess import Request, Terms, check_request, check_terms
from sana_wm.errors import InputError
from sana_wm.geometry.intrinsics import load_intrinsics
from sana_wm.geometry.poses import load_pose_file


@dataclass(frozen=True)
class Scene:
    """What the order names, the example filled in and files read; not yet checked against each other."""

    image: Path
    prompt: str
    action: str | None
    c2w: Any
    camera_fps: float | None
    intrinsics: Any
    intrinsics_from_camera: bool
    fov: float | None


def read_scene(order: VideoOrder) -> Scene:
    """Read what the order names; what is left out comes from the example.

    Raises:
        InputError: settings exclude each other, one is missing, or a file cannot be read.
    """
    image, prompt, action, fov = order.image, order.prompt, order.action, order.fov
    if action is not None and order.camera is not None:
        raise InputError("--action and --camera are both given; the camera path comes from one of them.")
    if order.intrinsics is not None and fov is not None:
        raise InputError("--intrinsics and --fov are both given; give one of them.")
    lens: Any = None if order.intrinsics is None else load_intrinsics(Path(order.intrinsics))
    if image is None:
        example = load_example()
        image, prompt = str(example.image), example.prompt if prompt is None else prompt
        if action is None and order.camera is None:
            action = example.action
        if lens is None and fov is None:
            lens, fov = example.intrinsics, example.fov
    if prompt is None:
        raise InputError("--prompt is missing; describe the scene, as text or as a text file.")
    if action is None and order.camera is None:
        raise InputError("--action or --camera is missing; say how the camera moves, e.g. --action w-80.")
    poses = None if order.camera is None else load_pose_file(Path(order.camera))
    from_camera = poses is not None and poses.intrinsics is not None and lens is None and fov is None
    return Scene(
        image=Path(image),
        prompt=prompt,
        action=action,
        c2w=None if poses is None else poses.c2w,
        camera_fps=None if poses is None else poses.fps,
        intrinsics=poses.intrinsics if poses is not None and from_camera else lens,
        intrinsics_from_camera=from_camera,
        fov=fov,
    )


def check_scene(scene: Scene, order: VideoOrder) -> Request:
    """What the scene is and how it is moved through, checked, with its picture.

    Raises:
        InputError: something is wrong.
    """
    return check_request(scene.image, scene.prompt, **_wishes(scene, order))


def check_scene_unseen(scene: Scene, order: VideoOrder) -> Terms:
    """As :func:`check_scene`, but only the head of the picture's file is read.

    Raises:
        InputError: something is wrong; damaged pixels are not found.
    """
    return check_terms(picture_size(scene.image), scene.prompt, **_wishes(scene, order))


def _wishes(scene: Scene, order: VideoOrder) -> dict[str, Any]:
    speeds = {"translation_speed": order.translation_speed, "rotation_speed_deg": order.rotation_speed_deg}
    return {
        "action": scene.action,
        "c2w": scene.c2w,
        "intrinsics": scene.intrinsics,
        "fov": scene.fov,
        "negative_prompt": order.negative_prompt,
        "intrinsics_source": "pose file" if scene.intrinsics_from_camera else "given",
        **{name: speed for name, speed in speeds.items() if speed is not None},
    }
