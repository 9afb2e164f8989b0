"""What is to be seen and how one moves through it, as the flags of `generate` say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sana_wm.errors import InputError

if TYPE_CHECKING:
    from sana_wm.engine.preprocess import Request


@dataclass(frozen=True)
class Scene:
    """What the flags name, the example filled in and files read; not yet checked against each other."""

    image: Path
    prompt: str
    action: str | None
    c2w: Any
    camera_fps: float | None
    intrinsics: Any
    intrinsics_from_camera: bool
    fov: float | None


def read_scene(
    image: Path | None,
    prompt: str | None,
    action: str | None,
    camera: Path | None,
    intrinsics: Path | None,
    fov: float | None,
) -> Scene:
    """Read what the flags name; what is left out comes from the example.

    Raises:
        InputError: flags exclude each other, one is missing, or a file cannot be read.
    """
    from sana_wm.cli.prompt import read_prompt
    from sana_wm.engine.example import load_example
    from sana_wm.geometry.intrinsics import load_intrinsics
    from sana_wm.geometry.poses import load_pose_file

    if action is not None and camera is not None:
        raise InputError("--action and --camera are both given; the camera path comes from one of them.")
    if intrinsics is not None and fov is not None:
        raise InputError("--intrinsics and --fov are both given; give one of them.")
    lens: Any = None if intrinsics is None else load_intrinsics(intrinsics)
    if image is None:
        example = load_example()
        image, prompt = example.image, example.prompt if prompt is None else prompt
        if action is None and camera is None:
            action = example.action
        if lens is None and fov is None:
            lens, fov = example.intrinsics, example.fov
    if prompt is None:
        raise InputError("--prompt is missing; describe the scene, as text or as a text file.")
    if action is None and camera is None:
        raise InputError("--action or --camera is missing; say how the camera moves, e.g. --action w-80.")
    poses = None if camera is None else load_pose_file(camera)
    from_camera = poses is not None and poses.intrinsics is not None and lens is None and fov is None
    return Scene(
        image=image,
        prompt=read_prompt(prompt),
        action=action,
        c2w=None if poses is None else poses.c2w,
        camera_fps=None if poses is None else poses.fps,
        intrinsics=poses.intrinsics if poses is not None and from_camera else lens,
        intrinsics_from_camera=from_camera,
        fov=fov,
    )


def check_scene(scene: Scene, negative_prompt: str, speeds: dict[str, float]) -> Request:
    """What the scene is and how it is moved through, checked; `speeds` as far as they are given."""
    from sana_wm.engine.preprocess import check_request

    return check_request(
        scene.image,
        scene.prompt,
        action=scene.action,
        c2w=scene.c2w,
        intrinsics=scene.intrinsics,
        fov=scene.fov,
        negative_prompt=negative_prompt,
        intrinsics_source="pose file" if scene.intrinsics_from_camera else "given",
        **speeds,
    )
