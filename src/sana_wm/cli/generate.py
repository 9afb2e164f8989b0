"""`sana-wm generate`: an image, a prompt and a camera path become a video on disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sana_wm.cli.model_flags import DeviceFlag, DtypeFlag, Fp8Flag, ModelFlag

if TYPE_CHECKING:
    from sana_wm.engine.conditions import Conditions

CAMERA, SAMPLING, OUTPUT, STREAM, BATCH = "Camera", "Sampling", "Output", "Streaming", "Many videos"
MODELS_OWN = "the model's"
NOT_OF_THE_VIDEO = ("begin", "jobs", "replicas")


def generate(
    image: Annotated[
        Path | None, typer.Option("--image", help="First frame. Left out: a picture that comes with the package.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What the scene is: text, or the name of a UTF-8 text file.")
    ] = None,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    dtype: DtypeFlag = "auto",
    fp8: Fp8Flag = False,
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
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Chunk by chunk, into a file that plays while it grows.", rich_help_panel=STREAM
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the streamed video that the same command began.", rich_help_panel=STREAM
        ),
    ] = False,
    save_every: Annotated[
        int | None,
        typer.Option(
            "--save_every",
            help="Chunks between two saves of what --resume needs; 0 for none.",
            show_default="1",
            rich_help_panel=STREAM,
        ),
    ] = None,
    jobs: Annotated[
        Path | None,
        typer.Option(
            "--jobs",
            help="A video for every line of this file: JSON objects with these flags as keys (docs/batch.md).",
            rich_help_panel=BATCH,
        ),
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(
            "--replicas",
            min=1,
            help="Models that work on the jobs at a time, one a GPU; above 1 through Ray.",
            rich_help_panel=BATCH,
        ),
    ] = 1,
) -> None:
    """Make a video. Without options: the bundled example, into the folder out."""
    begin = time.perf_counter()
    values = {key: value for key, value in locals().items() if key not in NOT_OF_THE_VIDEO}
    flags: dict[str, Any] = {key: str(v) if isinstance(v, Path) else v for key, v in values.items()}

    from sana_wm.cli.bars import Bars
    from sana_wm.cli.generate_jobs import check_jobs_flags, generate_jobs
    from sana_wm.cli.generate_stream import Target, check_stream_flags, stream_names, stream_to_disk
    from sana_wm.engine.fulfil import file_rate, fulfil
    from sana_wm.engine.order import VideoOrder, check_numbers
    from sana_wm.engine.outputs import output_names
    from sana_wm.engine.progress import StageClock
    from sana_wm.engine.prompt_input import read_prompt
    from sana_wm.engine.scene import check_scene, read_scene
    from sana_wm.engine.source import ModelSource
    from sana_wm.engine.staging import check_name, check_writable
    from sana_wm.engine.stream_plan import plan_stream

    # Everything that can be wrong is found here, before anything large is read or downloaded.
    check_stream_flags(stream, resume=resume, save_every=save_every, overlay=overlay, step=step, flow_shift=flow_shift)
    check_jobs_flags(jobs, replicas, stream=stream, name=name)
    source = ModelSource.of(model, device, dtype, fp8=fp8)
    given = {key: value for key, value in flags.items() if key in VideoOrder.__dataclass_fields__}
    order = VideoOrder(**given | {"prompt": None if prompt is None else read_prompt(prompt)})
    if jobs is not None:
        generate_jobs(jobs, order, source, output_dir, replicas)
        return
    scene = read_scene(order)
    name = check_name(scene.image.stem if name is None else name)
    names = stream_names(name) if stream else list(output_names(name, overlay=overlay).values())
    check_writable(output_dir, names)
    check_numbers(order)
    request = check_scene(scene, order)

    with Bars() as bars:
        clock = StageClock(bars)
        with clock.stage("load", 1) as report:
            pipe = source.load()
            report(1)
        asked = flags | {"image": str(scene.image), "action": scene.action}
        if stream:
            rate = file_rate(pipe, order, scene)
            few_steps = plan_stream(pipe.settings, step, cfg_scale, flow_shift)
            target = Target(output_dir, name, rate, resume, save_every)
            conditions, paths = stream_to_disk(pipe, few_steps, request, num_frames, seed, target, clock, asked)
        else:
            made = fulfil(
                pipe, order, scene, request, output_dir, name, asked=asked, timings=clock.seconds, progress=bars
            )
            conditions, rate, paths = made.conditions, made.fps, made.paths
    _report(conditions, rate, paths, time.perf_counter() - begin)


def _report(made: Conditions, rate: int, paths: list[Path], seconds: float) -> None:
    typer.echo(
        f"{made.num_frames} frames of {made.width}x{made.height} at {rate} fps, {made.num_frames / rate:.1f} s "
        f"({made.frames_requested} frames requested, {made.frames_available} poses available)"
    )
    for path in paths:
        typer.echo(f"  {path}")
    typer.echo(f"{seconds:.1f} s in total")
