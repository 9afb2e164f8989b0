"""Many clips at once: the codec's round trip, and generation by a model that sees them whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sana_wm.checkpoints.components import Codec, Components
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.pixels import to_levels, to_video
from sana_wm.engine.sampling_plan import SamplingPlan
from sana_wm.evaluation.held_out import HeldOut
from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.geometry.poses import relative_to_first
from sana_wm.models.context import BlockContext
from sana_wm.sampling import guided


def to_frames(video: Tensor) -> Tensor:
    """(B,3,F,H,W) in [-1, 1] -> (B,F,3,H,W) uint8, rounded.

    Raises:
        GenerationError: a pixel is not finite.
    """
    if not bool(torch.isfinite(video).all()):
        raise GenerationError("stage decode: pixels are not finite; is the codec damaged?")
    return to_levels(video).transpose(1, 2).contiguous()


@torch.inference_mode()
def round_trip(codec: Codec, frames: Tensor, batch: int, report: Callable[[int], None] | None = None) -> Tensor:
    """(B,F,3,H,W) uint8 through encoder and decoder, `batch` clips at a time; `report` gets the clips done."""
    dtype = next(codec.parameters()).dtype
    parts: list[Tensor] = []
    done = 0
    for part in frames.split(batch):
        parts.append(to_frames(codec.decode(codec.encode(to_video(part).to(dtype)).float())))
        done += len(part)
        if report is not None:
            report(done)
    return torch.cat(parts)


@torch.inference_mode()
def generate_whole(
    components: Components,
    clips: HeldOut,
    prompts: Sequence[str],
    plan: SamplingPlan,
    *,
    batch: int,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> Tensor:
    """Videos (B,F,3,H,W) uint8 from the first frames, cameras and `prompts` of clips, `batch` of them at a time.

    The transformer runs under bfloat16 autocast on CUDA, the codec as it is. The noise of a clip comes from a
    generator of its own (`HeldOut.noise_seed`), so its video does not depend on the clips beside it.

    Args:
        report: gets the sampling steps done so far, counted a clip.

    Raises:
        GenerationError, SamplingError: pixels or latents are not finite.
    """
    videos: list[Tensor] = []
    steps = plan.num_inference_steps
    for start in range(0, len(clips), batch):
        chosen = range(start, min(start + batch, len(clips)))
        noise = first_frames_in_noise(components.codec, clips, chosen, seed)
        clean = torch.zeros(noise.shape[2], dtype=torch.bool)
        clean[0] = True

        def on_step(step: int, total: int, latents: Tensor, start: int = start, size: int = len(chosen)) -> None:
            if report is not None:
                report(start * steps + step * size)

        device = noise.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            context = _condition(components, clips, chosen, [prompts[i] for i in chosen], plan, noise)

            def model_fn(latents: Tensor, timesteps: Tensor, context: BlockContext = context) -> Tensor:
                return components.transformer.denoise(latents, timesteps, context)

            latents = plan.run(guided(model_fn, plan.guidance_scale), noise, clean, on_step)
        videos += [to_frames(components.codec.decode(part)) for part in latents.split(8)]
    return torch.cat(videos)


def first_frames_in_noise(codec: Codec, clips: HeldOut, chosen: range, seed: int) -> Tensor:
    """Noise (b,C,T,h,w) float32 with the latents of the first frames in front."""
    dtype = next(codec.parameters()).dtype
    first = codec.encode(to_video(clips.frames[chosen.start : chosen.stop, :1]).to(dtype)).float()
    frames = (clips.frames.shape[1] - 1) // codec.temporal_stride + 1
    shape = (codec.latent_channels, frames, *first.shape[-2:])
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(clips.noise_seed(i, seed))) for i in chosen]
    noise = torch.stack(drawn).to(first.device)
    noise[:, :, :1] = first
    return noise


def _condition(
    components: Components, clips: HeldOut, chosen: range, prompts: list[str], plan: SamplingPlan, noise: Tensor
) -> BlockContext:
    """Text and cameras of the chosen clips; with guidance the empty prompts come first, as `guided` wants it."""
    features, mask = components.text_encoder.encode(prompts)
    span = slice(chosen.start, chosen.stop)
    size = (noise.shape[2], noise.shape[3], noise.shape[4])
    stride = components.codec.temporal_stride
    cameras = (relative_to_first(clips.c2w[span]), clips.intrinsics[span], clips.size, size[1:], stride)
    poses, rays = camera_conditions(*cameras), chunk_plucker(*cameras)
    if plan.uses_negative:
        negative, negative_mask = components.text_encoder.encode_negative([""] * len(prompts))
        features, mask = torch.cat([negative, features]), torch.cat([negative_mask, mask])
        poses, rays = torch.cat([poses, poses]), torch.cat([rays, rays])
    return components.transformer.condition(size, features, mask, poses, rays)
