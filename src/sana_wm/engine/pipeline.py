"""The whole way from an image, a prompt and a camera path to a video."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.checkpoints.components import Codec, Components, TextEncoder
from sana_wm.checkpoints.load import load_components
from sana_wm.engine.conditions import Conditions
from sana_wm.engine.decoding import decode_frames, refuse_flat
from sana_wm.engine.devices import choose_device
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.image_input import ImageSource
from sana_wm.engine.memory import Need, out_of_memory
from sana_wm.engine.preprocess import Request, check_request, make_conditions
from sana_wm.engine.progress import Progress, StageClock
from sana_wm.engine.replay import replayed_if_short
from sana_wm.engine.sampling_plan import SamplingPlan
from sana_wm.engine.stream_plan import plan_video
from sana_wm.engine.video import WorldVideo
from sana_wm.errors import InputError
from sana_wm.geometry.actions import DEFAULT_ROTATION_SPEED_DEG, DEFAULT_TRANSLATION_SPEED
from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.geometry.poses import warn_large_steps
from sana_wm.models.config import PipelineSettings, StreamSettings
from sana_wm.models.context import BlockContext
from sana_wm.models.fp8 import check_fp8, is_fp8, to_fp8
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.sampling import SamplingError, guided

DEFAULT_SEED = 42


class SanaWMPipeline:
    """A world model ready to make videos; it can be called any number of times.

    Attributes:
        settings: picture size, frame rate and the defaults of a call.
        name: where the model came from.
    """

    def __init__(
        self,
        transformer: SanaWMTransformer,
        codec: Codec,
        text_encoder: TextEncoder,
        settings: PipelineSettings,
        *,
        name: str = "",
    ) -> None:
        """Put the parts together; they stay where they are.

        Raises:
            InputError: the parts belong to different models, or the picture size does not suit the codec.
        """
        Components(transformer, codec, text_encoder, settings)  # refuses parts of different models
        stride = codec.spatial_stride
        if settings.height % stride or settings.width % stride:
            size = f"{settings.width}x{settings.height}"
            raise InputError(f"the model's settings ask for {size} pixels; its codec takes multiples of {stride}.")
        self.transformer = transformer
        self.codec = codec
        self.text_encoder = text_encoder
        self.settings = settings
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "nano",
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        fp8: bool = False,
    ) -> SanaWMPipeline:
        """Load "nano" (the bundled model), a model directory, or a Hugging Face hub id `owner/repo`.

        `device` None is CUDA if there is one, else the CPU; `dtype` None is bfloat16 on CUDA and float32 on the CPU.
        `fp8` has the transformer's large products done in eight-bit floats: faster, less accurate (docs/speed.md).

        Raises:
            InputError: there is no such model or device, the files do not fit together, or the device does not
                multiply eight bits.
        """
        chosen = choose_device("auto" if device is None else device)
        if fp8:
            check_fp8(chosen)
        parts = load_components(model, device=chosen, dtype=dtype)
        if fp8:
            to_fp8(parts.transformer)
        return cls(parts.transformer, parts.codec, parts.text_encoder, parts.settings, name=str(model))

    @property
    def device(self) -> torch.device:
        return self.transformer.x_embedder.proj.weight.device

    def __call__(
        self,
        image: ImageSource,
        prompt: str,
        action: str | None = None,
        c2w: Tensor | npt.NDArray[Any] | None = None,
        intrinsics: Tensor | npt.ArrayLike | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        flow_shift: float | None = None,
        negative_prompt: str = "",
        generator: torch.Generator | int | None = None,
        translation_speed: float = DEFAULT_TRANSLATION_SPEED,
        rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG,
        progress: Progress | None = None,
        *,
        fov: float | None = None,
    ) -> WorldVideo:
        """Make a video; what is None comes from the model's settings.

        Args:
            image: first frame: a path, a PIL image or a uint8 array (H,W,3); turned upright by its EXIF
                orientation, and laid over white where it is transparent.
            prompt: the scene, not the camera's motion.
            action: keys and frames such as "w-40,dw-20"; or instead of it
            c2w: camera-to-world matrices (N,4,4), OpenCV axes, one a frame.
            intrinsics: (4,), (3,3), (N,4) or (N,3,3) in pixels of the upright image; or instead of it
            fov: horizontal field of view of the image in degrees. Neither: 60 degrees along the longer side.
            num_frames: length, at most the path's, taken to the nearest 8k + 1.
            guidance_scale: above 1, the text is followed more closely, at twice the cost.
            generator: draws the noise, on its own device, so that a CPU generator gives the same noise whatever the
                model's device; a number is the seed of one, None is seed 42. Of a generator, a model that makes chunk
                after chunk takes the seed.
            translation_speed, rotation_speed_deg: units and degrees per frame of a held key, for `action` only.
            progress: called with (stage, done, total); stages are encode, denoise and decode, or encode and stream.

        Raises:
            InputError: something in the arguments is wrong.
            GenerationError: the model made something that is no video.
        """
        request = check_request(
            image,
            prompt,
            action=action,
            c2w=c2w,
            intrinsics=intrinsics,
            fov=fov,
            negative_prompt=negative_prompt,
            translation_speed=translation_speed,
            rotation_speed_deg=rotation_speed_deg,
        )
        if c2w is not None:
            warn_large_steps(request.c2w)
        plan = self.plan(num_inference_steps, guidance_scale, flow_shift)
        video = self.generate(self.prepare(request, num_frames), plan, generator, progress)
        if action is not None:
            video.settings.update(
                action=action, translation_speed=translation_speed, rotation_speed_deg=rotation_speed_deg
            )
        return video

    def prepare(self, request: Request, num_frames: int | None = None, stride: int | None = None) -> Conditions:
        """Fit a checked request to this model's picture size and frame count, stride * k + 1; None: the codec's."""
        return make_conditions(request, self.settings, num_frames, stride or self.codec.temporal_stride)

    def plan(
        self,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        flow_shift: float | None = None,
    ) -> SamplingPlan | StreamSettings:
        """How this model samples a video: whole, or chunk after chunk if its settings say that it was trained to.

        Raises:
            InputError: a number that no sampler can work with.
        """
        return plan_video(self.settings, num_inference_steps, guidance_scale, flow_shift)

    @torch.inference_mode()
    def generate(
        self,
        conditions: Conditions,
        plan: SamplingPlan | StreamSettings | None = None,
        generator: torch.Generator | int | None = None,
        progress: Progress | None = None,
    ) -> WorldVideo:
        """Make the video of `conditions`; see :meth:`__call__` for the other arguments and the errors."""
        plan = plan or self.plan()
        clock = StageClock(progress)
        if isinstance(plan, StreamSettings):
            from sana_wm.engine.chunked_video import chunked_video  # built on this class

            return chunked_video(self, conditions, plan, noise_generator(generator).initial_seed(), clock)
        try:
            return self._generate(conditions, plan, noise_generator(generator), clock)
        except torch.OutOfMemoryError as error:
            config, parameter = self.transformer.config, next(self.transformer.parameters())
            height, width = (side // self.codec.spatial_stride for side in conditions.image.shape[-2:])
            need = Need(
                conditions.num_frames, config.width, height * width, config.temporal_stride, parameter.element_size(),
                2 if plan.uses_negative else 1,
            )  # fmt: skip
            raise out_of_memory(clock.current, self.device, need) from error

    def _generate(
        self, conditions: Conditions, plan: SamplingPlan, generator: torch.Generator, clock: StageClock
    ) -> WorldVideo:
        begin = time.perf_counter()
        with clock.stage("encode", 2) as report:
            first = self.encode_image(conditions.image)
            report(1)
            negative = conditions.negative_prompt if plan.uses_negative else None
            features, mask = self.encode_text(conditions.prompt, negative)
            report(2)
        with clock.stage("denoise", plan.num_inference_steps) as report:
            noise = self._noise(conditions, first, generator)
            context = self._condition(conditions, noise, features, mask)
            latents = self._denoise(noise, context, plan, report)
        with clock.stage("decode", conditions.num_frames) as report:
            frames = decode_frames(self.codec, latents, report)
            refuse_flat(frames, conditions.image)
        clock.seconds["generate"] = time.perf_counter() - begin
        return WorldVideo(
            frames=frames,
            fps=self.settings.fps,
            c2w=conditions.c2w,
            intrinsics=conditions.intrinsics,
            settings=self._settings(conditions, plan, generator.initial_seed()),
            timings=clock.seconds,
        )

    def encode_image(self, image: Tensor) -> Tensor:
        """Latents (1,C,1,h,w), float32, of a first frame (3,H,W) in [-1, 1].

        Raises:
            GenerationError: they are not finite.
        """
        dtype = next(self.codec.parameters()).dtype
        video = image[None, :, None].to(self.device, dtype)
        latents = self.codec.encode(video).float()
        if not bool(torch.isfinite(latents).all()):
            raise GenerationError("stage encode: the image's latents are not finite; the codec may be damaged.")
        return latents

    def encode_text(self, prompt: str, negative_prompt: str | None = None) -> tuple[Tensor, Tensor]:
        """Caption features (B,1,L,C) and mask (B,L); B is 2 if there is a negative prompt, which then is first."""
        features, mask = self.text_encoder.encode([prompt])
        if negative_prompt is None:
            return features, mask
        negative, negative_mask = self.text_encoder.encode_negative([negative_prompt])
        return torch.cat([negative, features]), torch.cat([negative_mask, mask])

    def _noise(self, conditions: Conditions, first: Tensor, generator: torch.Generator) -> Tensor:
        """Noise (1,C,T,h,w) with the clean first latent in its place, float32."""
        frames = (conditions.num_frames - 1) // self.codec.temporal_stride + 1
        shape = (1, self.codec.latent_channels, frames, *first.shape[-2:])
        latents = torch.randn(shape, generator=generator, device=generator.device).to(self.device)
        latents[:, :, :1] = first
        return latents

    def _condition(self, conditions: Conditions, latents: Tensor, features: Tensor, mask: Tensor) -> BlockContext:
        """Text and camera for the transformer. Guidance is about text: both halves of its batch see the camera."""
        size = (latents.shape[2], latents.shape[3], latents.shape[4])
        cameras = (
            conditions.c2w.to(self.device),
            conditions.intrinsics.to(self.device),
            (conditions.height, conditions.width),
            size[1:],
            self.codec.temporal_stride,
        )
        batch = len(features)
        return self.transformer.condition(
            size,
            features,
            mask,
            camera_conditions(*cameras).expand(batch, -1, -1),
            chunk_plucker(*cameras).expand(batch, -1, -1, -1, -1),
        )

    def _denoise(
        self, noise: Tensor, context: BlockContext, plan: SamplingPlan, report: Callable[[int], None]
    ) -> Tensor:
        """Latents (1,C,T,h,w) float32 from noise whose first frame is clean."""
        clean = torch.zeros(noise.shape[2], dtype=torch.bool)
        clean[0] = True

        def model_fn(latents: Tensor, timesteps: Tensor) -> Tensor:
            return self.transformer.denoise(latents, timesteps, context)

        batch = len(context.caption)
        numbers = batch * noise.shape[2:].numel() * self.transformer.config.width
        velocity_fn = guided(replayed_if_short(model_fn, noise.device, numbers), plan.guidance_scale)
        try:
            return plan.run(velocity_fn, noise, clean, lambda step, steps, latents: report(step))
        except SamplingError as error:
            raise GenerationError(f"stage denoise: {error}.") from error

    def _settings(self, conditions: Conditions, plan: SamplingPlan, seed: int) -> dict[str, Any]:
        return self.describe(conditions, seed) | {
            "sampler": plan.sampler,
            "num_inference_steps": plan.num_inference_steps,
            "guidance_scale": plan.guidance_scale,
            "flow_shift": plan.flow_shift,
        }

    def describe(self, conditions: Conditions, seed: int) -> dict[str, Any]:
        """What a video was made with, apart from how it was sampled; ready for JSON."""
        return {
            "model": self.name,
            "device": str(self.device),
            "dtype": str(self.transformer.dtype).removeprefix("torch."),
            "fp8": is_fp8(self.transformer),
            "prompt": conditions.prompt,
            "negative_prompt": conditions.negative_prompt,
            "seed": seed,
            "height": conditions.height,
            "width": conditions.width,
            "frames": {
                "requested": conditions.frames_requested,
                "available": conditions.frames_available,
                "used": conditions.num_frames,
            },
            "intrinsics": {
                "source": conditions.intrinsics_source,
                "assumed": conditions.intrinsics_source == "default",
                "source_image_wh": list(conditions.source_wh),
                "source_image": _numbers(conditions.source_intrinsics),
                "video": _numbers(conditions.intrinsics[0]),
            },
        }


def noise_generator(generator: torch.Generator | int | None = None) -> torch.Generator:
    """The generator itself, or a CPU generator with the seed given (None: 42).

    Raises:
        InputError: the seed is below 0 or beyond 63 bits.
    """
    if isinstance(generator, torch.Generator):
        return generator
    seed = DEFAULT_SEED if generator is None else generator
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; it must be a whole number from 0 to {2**63 - 1}.")
    return torch.Generator().manual_seed(seed)


def _numbers(values: Tensor) -> list[float]:
    return np.round(values.double().numpy(), 4).tolist()
