"""Many clips at once, made chunk after chunk: how a model that streams is compared with one that sees whole clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sana_wm.checkpoints.components import Components
from sana_wm.errors import InputError
from sana_wm.evaluation.batched import first_frames_in_noise, to_frames
from sana_wm.evaluation.held_out import HeldOut
from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.geometry.poses import relative_to_first
from sana_wm.models.chunked import ChunkedModel
from sana_wm.models.config import StreamSettings
from sana_wm.sampling import list_sigmas, needs_uncond, next_chunk


def fewer_timesteps(timesteps: Sequence[float], steps: int) -> tuple[float, ...]:
    """Every so many of a student's timesteps, so that `steps` of them and the last 0 are left.

    Raises:
        InputError: they cannot be divided evenly.
    """
    count = len(timesteps) - 1
    if steps < 1 or count % steps:
        raise InputError(f"steps is {steps}; a student of {count} steps can take any number that divides {count}.")
    return (*timesteps[: -1 : count // steps], timesteps[-1])


@torch.inference_mode()
def generate_in_chunks(
    components: Components,
    clips: HeldOut,
    prompts: Sequence[str],
    stream: StreamSettings,
    *,
    batch: int,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> Tensor:
    """The same as `batched.generate_whole`, with the same noise, but every chunk follows finished ones.

    Only where `stream` renoises does a video depend on the clips beside it, through the noise between steps.

    Raises:
        InputError: the plan asks for guidance. GenerationError, SamplingError: pixels or latents are not finite.
    """
    if needs_uncond(stream.guidance_scale):
        raise InputError(f"guidance_scale is {stream.guidance_scale}; clips are made in chunks without guidance.")
    sigmas = list_sigmas(stream.timesteps)
    videos: list[Tensor] = []
    for start in range(0, len(clips), batch):
        chosen = range(start, min(start + batch, len(clips)))
        noise = first_frames_in_noise(components.codec, clips, chosen, seed)
        model = _model(components, clips, chosen, [prompts[i] for i in chosen], stream, noise)
        fresh = torch.Generator(noise.device).manual_seed(clips.noise_seed(start, seed))
        made = []
        for first, end in model.bounds:
            given = torch.arange(first, end) == 0
            renoise = fresh if stream.sampler == "renoise" else None
            made.append(next_chunk(model, noise[:, :, first:end], sigmas, clean_frames=given, renoise=renoise))
        videos += [to_frames(components.codec.decode(part)) for part in torch.cat(made, 2).split(8)]
        if report is not None:
            report(chosen.stop * (len(sigmas) - 1))
    return torch.cat(videos)


def _model(
    components: Components,
    clips: HeldOut,
    chosen: range,
    prompts: list[str],
    stream: StreamSettings,
    noise: Tensor,
) -> ChunkedModel:
    y, mask = components.text_encoder.encode(prompts)
    size = (noise.shape[2], noise.shape[3], noise.shape[4])
    span = slice(chosen.start, chosen.stop)
    given = (
        relative_to_first(clips.c2w[span]), clips.intrinsics[span], clips.size, size[1:],
        components.codec.temporal_stride,
    )  # fmt: skip
    cameras = camera_conditions(*given), chunk_plucker(*given)
    return ChunkedModel(components.transformer, stream.chunks, size, y, mask, cameras, leash=stream.leash)
