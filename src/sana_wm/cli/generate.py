"""`sana-wm generate`: an image, a prompt and a camera path become a video on disk."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sana_wm.errors import InputError

if TYPE_CHECKING:
    from sana_wm.engine.preprocess import Request
    from sana_wm.engine.video import WorldVideo

logger = logging.getLogger(__name__)

CAMERA, SAMPLING, OUTPUT = "Camera", "Sampling", "Output"
MODELS_OWN = "the model's"


def generate(
    image: Annotated[
        Path | None, typer.Option("--image", help="First frame. Left out: a picture that comes with the package.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What the scene is: text, or the name of a UTF-8 text file.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="nano, a directory, or a hub id owner/repo.")] = "nano",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    fp8: Annotated[
        bool, typer.Option("--fp8", help="Multiply in eight-bit floats: faster, less accurate (Ada, Hopper).")
    ] = False,
    action: Annotated[
        str | None,
        typer.Option("--action", help="Keys and frames, such as w-40,dw-20,none-10.", rich_help_panel=CAMERA),
    ] = None,
    camera: Annotated[
        Path | None,
        typer.Option("--camera", help="Instead of --action: poses (F,4,4) in .npy or .npz.", rich_help_panel=CAMERA),
    ] = None,
    intrinsics: Annotated[
        Path | None,
        typer.Option(
            "--intrinsics", help="Image pixels: (4,), (3,3), (F,4) or (F,3,3) in .npy.", rich_help_panel=CAMERA
        ),
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(
            "--fov",
            help="Instead of --intrinsics: horizontal degrees.",
            show_default="60 along the longer side",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    translation_speed: Annotated[
        float | None,
        typer.Option(
            "--translation_speed", help="Units a frame of a held key.", show_default="0.025", rich_help_panel=CAMERA
        ),
    ] = None,
    rotation_speed_deg: Annotated[
        float | None,
        typer.Option(
            "--rotation_speed_deg", help="Degrees a frame of a held key.", show_default="0.6", rich_help_panel=CAMERA
        ),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            "--num_frames",
            help="Length, at most the path's; taken to the nearest 8k+1.",
            show_default=MODELS_OWN,
            rich_help_panel=CAMERA,
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option("--step", help="Denoising steps.", show_default=MODELS_OWN, rich_help_panel=SAMPLING),
    ] = None,
    cfg_scale: Annotated[
        float | None,
        typer.Option(
            "--cfg_scale", help="Text guidance; 1 is none.", show_default=MODELS_OWN, rich_help_panel=SAMPLING
        ),
    ] = None,
    flow_shift: Annotated[
        float | None,
        typer.Option(
            "--flow_shift", help="Shift of the noise levels.", show_default=MODELS_OWN, rich_help_panel=SAMPLING
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.", rich_help_panel=SAMPLING)] = 42,
    negative_prompt: Annotated[
        str,
        typer.Option(
            "--negative_prompt", help="What guidance leads away from.", show_default="empty", rich_help_panel=SAMPLING
        ),
    ] = "",
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Folder of the results; made if need be.", rich_help_panel=OUTPUT)
    ] = Path("out"),
    name: Annotated[
        str | None,
        typer.Option("--name", help="Stem of the files.", show_default="the image's", rich_help_panel=OUTPUT),
    ] = None,
    fps: Annotated[
        int | None,
        typer.Option(
            "--fps",
            help="Rate of the file; the motion from frame to frame stays.",
            show_default=MODELS_OWN,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also write the video with its motion drawn on.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Make a video. Without options: the bundled example, into the folder out."""
    begin = time.perf_counter()
    flags = {key: str(value) if isinstance(value, Path) else value for key, value in locals().items() if key != "begin"}

    from sana_wm.cli.bars import Bars
    from sana_wm.engine.devices import choose_device
    from sana_wm.engine.mp4 import check_fps
    from sana_wm.engine.outputs import output_names, write_outputs
    from sana_wm.engine.pipeline import SanaWMPipeline, noise_generator
    from sana_wm.engine.preprocess import check_num_frames
    from sana_wm.engine.progress import StageClock
    from sana_wm.engine.sampling_plan import SamplingPlan, check_sampling
    from sana_wm.engine.staging import check_name, check_writable
    from sana_wm.models.fp8 import check_fp8

    # Everything that can be wrong is found here, before anything large is read or downloaded.
    scene = _scene(image, prompt, action, camera, intrinsics, fov)
    name = check_name(scene.image.stem if name is None else name)
    check_writable(output_dir, list(output_names(name, overlay=overlay).values()))
    check_sampling(step, cfg_scale, flow_shift)
    generator = noise_generator(seed)
    if num_frames is not None:
        check_num_frames(num_frames)
    if fps is not None:
        check_fps(fps)
    chosen = choose_device(device)
    if fp8:
        check_fp8(chosen)
    speeds = {"translation_speed": translation_speed, "rotation_speed_deg": rotation_speed_deg}
    request = _check(scene, negative_prompt, {key: value for key, value in speeds.items() if value is not None})

    with Bars() as bars:
        clock = StageClock(bars)
        with clock.stage("load", 1) as report:
            pipe = SanaWMPipeline.from_pretrained(model, device=chosen, fp8=fp8)
            report(1)
        rate = pipe.settings.fps if fps is None else fps
        if scene.camera_fps is not None and scene.camera_fps != rate:
            logger.warning("the poses are for %g frames a second, the video is written at %d", scene.camera_fps, rate)
        plan = SamplingPlan.of(pipe.settings, step, cfg_scale, flow_shift)
        video = pipe.generate(pipe.prepare(request, num_frames), plan, generator, bars)
        paths = write_outputs(
            video,
            output_dir,
            name,
            fps=rate,
            overlay=overlay,
            timings=clock.seconds,
            request=flags | {"image": str(scene.image), "action": scene.action},
            progress=bars,
        )
    _report(video, rate, list(paths.values()), time.perf_counter() - begin)


@dataclass(frozen=True)
class _Scene:
    """What the flags name, the example filled in and files read; not yet checked against each other."""

    image: Path
    prompt: str
    action: str | None
    c2w: Any
    camera_fps: float | None
    intrinsics: Any
    intrinsics_from_camera: bool
    fov: float | None


def _scene(
    image: Path | None,
    prompt: str | None,
    action: str | None,
    camera: Path | None,
    intrinsics: Path | None,
    fov: float | None,
) -> _Scene:
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
    return _Scene(
        image=image,
        prompt=read_prompt(prompt),
        action=action,
        c2w=None if poses is None else poses.c2w,
        camera_fps=None if poses is None else poses.fps,
        intrinsics=poses.intrinsics if poses is not None and from_camera else lens,
        intrinsics_from_camera=from_camera,
        fov=fov,
    )


def _check(scene: _Scene, negative_prompt: str, speeds: dict[str, float]) -> Request:
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


def _report(video: WorldVideo, rate: int, paths: list[Path], seconds: float) -> None:
    frames = video.settings["frames"]
    count, height, width = video.frames.shape[:3]
    typer.echo(
        f"{count} frames of {width}x{height} at {rate} fps, {count / rate:.1f} s "
        f"({frames['requested']} frames requested, {frames['available']} poses available)"
    )
    for path in paths:
        typer.echo(f"  {path}")
    typer.echo(f"{seconds:.1f} s in total")
