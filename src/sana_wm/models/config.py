"""What distinguishes one model from another: frozen dataclasses and the named presets built from them.

Nothing in the code asks which preset it runs. A configuration is written as JSON beside every checkpoint, so a field
that is not here does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sana_wm.errors import InputError
from sana_wm.geometry.chunks import chunk_starts

CAMERA_ROW = 20
"""Numbers a latent frame carries for the camera branch: 4x4 camera-to-world row-major, then fx, fy, cx, cy."""


@dataclass(frozen=True)
class TransformerConfig:
    """Shape and semantics of :class:`~sana_wm.models.transformer.SanaWMTransformer` (spec 10, section 1).

    The defaults are the published 2.6B model.

    Attributes:
        softmax_every_n: block i (0-based) attends with softmax if (i + 1) is divisible by this; the others are
            frame-wise GDN.
        mlp_ratio: FFN hidden width over model width.
        conv_kernel: taps of the causal half of the symmetric temporal convolution on K in GDN blocks.
        temporal_stride: raw frames a latent frame stands for; the Plücker input has 6 channels for each of them.
        softmax_scale_main: logit scale of the main branch in softmax blocks; None is 1/sqrt(D).
        softmax_scale_cam: the same for the camera branch. Released weights were run with 1/sqrt(128), the width the
            release pads D=112 to (spec 10, section 9), so the 2.6B preset sets it; models we train leave it None.
        truncate_timesteps: drop the fraction of a timestep before embedding it, as the release does.
        camera_math_dtype: "bfloat16" rounds camera poses and intrinsics like the release, for comparison only.
        key_scale: what keys of GDN blocks are divided by: sqrt(D*S) for "frame", sqrt(D) for "head". All but "frame"
            are for showing why it is needed (`sana-wm evaluate claims`).
        camera_conv_left_context: whether the filter on camera keys of a chunk reaches into the chunk before. The first
            release of the streaming model did not (spec 20, section 3.6).
        masked_softmax: whether softmax blocks respect chunks. In the first release of the chunk-causal model they saw
            the whole call (spec 20, section 3.6).
        camera_paths: which of the two ways a camera has into the model are open; less than both is for showing what
            each is worth.
    """

    depth: int = 20
    width: int = 2240
    num_heads: int = 20
    in_channels: int = 128
    caption_channels: int = 2304
    caption_tokens: int = 300
    softmax_every_n: int = 4
    mlp_ratio: float = 3.0
    conv_kernel: int = 4
    temporal_stride: int = 8
    softmax_scale_main: float | None = None
    softmax_scale_cam: float | None = None
    truncate_timesteps: bool = True
    camera_math_dtype: Literal["float32", "bfloat16"] = "float32"
    key_scale: Literal["frame", "head", "none"] = "frame"
    camera_conv_left_context: bool = True
    masked_softmax: bool = True
    camera_paths: tuple[Literal["ucpe", "plucker"], ...] = ("ucpe", "plucker")

    def __post_init__(self) -> None:
        sizes = ("depth", "width", "num_heads", "in_channels", "caption_channels", "caption_tokens", "conv_kernel")
        for name in (*sizes, "softmax_every_n", "temporal_stride"):
            if getattr(self, name) < 1:
                raise InputError(f"transformer.{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.num_heads:
            raise InputError(f"transformer.width {self.width} must be a multiple of num_heads {self.num_heads}")
        if self.head_dim % 8:
            raise InputError(
                f"transformer.width / num_heads is {self.head_dim}; it must be a multiple of 8, because half of a head "
                "holds groups of four channels"
            )
        if self.camera_math_dtype not in ("float32", "bfloat16"):
            raise InputError(f"camera_math_dtype is {self.camera_math_dtype!r}; it must be 'float32' or 'bfloat16'")

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads

    @property
    def mlp_hidden(self) -> int:
        return int(self.width * self.mlp_ratio)

    @property
    def plucker_channels(self) -> int:
        return 6 * self.temporal_stride

    def is_softmax(self, block: int) -> bool:
        return (block + 1) % self.softmax_every_n == 0


@dataclass(frozen=True)
class NanoAutoencoderConfig:
    """The small causal video autoencoder: 8 frames x 16 x 16 pixels become one latent of `latent_channels` numbers.

    `widths` are the channels at 1/16, 1/8 and 1/4 of the image, where time runs at 1/8, 1/4 and 1/2 of the frame rate;
    `encoder_blocks` and `decoder_blocks` count residual blocks at the same three levels.
    """

    latent_channels: int = 96
    widths: tuple[int, int, int] = (320, 160, 80)
    encoder_blocks: tuple[int, int, int] = (2, 2, 2)
    decoder_blocks: tuple[int, int, int] = (2, 3, 3)


@dataclass(frozen=True)
class NanoTextConfig:
    """The byte-level text encoder: every `stride` bytes become one of `max_tokens` tokens."""

    channels: int = 192
    layers: int = 2
    heads: int = 6
    stride: int = 4
    max_tokens: int = 64


@dataclass(frozen=True)
class ChunkSettings:
    """The chunks of a video, and which of them a chunk sees (spec 20, sections 1.2 and 3.5).

    Attributes:
        size, strategy: latent frames of a chunk, and where chunks begin; see `geometry.chunks.chunk_starts`.
        window, sink: earlier chunks whose keys softmax blocks read, 0 for all, which then cost more with every chunk;
            with `sink` the first chunk is always one of them. See `models.visibility.Visibility`.
    """

    size: int = 3
    strategy: Literal["uniform", "first_frame", "first_chunk_plus_one"] = "first_chunk_plus_one"
    window: int = 0
    sink: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"chunks.size is {self.size}; it must be at least 1")
        if self.window < 0:
            raise InputError(f"chunks.window is {self.window}; it must be 0, for all chunks, or more")

    def starts(self, frames: int) -> list[int]:
        """First frames of the chunks of a video of `frames` latent frames."""
        return chunk_starts(frames, self.size, self.strategy)


@dataclass(frozen=True)
class Leash:
    """How far the past may seem, so that a video without end stays among the numbers that training has seen.

    Attributes:
        distance: cameras are told relative to a place, at first that of the first frame, which then follows the camera
            at most so far behind it, between chunks. In units of the poses.
        frames: a first chunk that has left the window and is kept as a sink stays as near, and seems no more latent
            frames ago than this.
    """

    distance: float
    frames: int

    def __post_init__(self) -> None:
        if not self.distance > 0:
            raise InputError(f"leash.distance is {self.distance:g}; it must be above 0")
        if self.frames < 1:
            raise InputError(f"leash.frames is {self.frames}; it must be at least 1")


@dataclass(frozen=True)
class StreamSettings:
    """How a model makes a video chunk after chunk (spec 20, section 3.5; spec 21, section 5).

    The defaults are the released streaming model's. Weights that were never distilled run with them too, poorly.

    Attributes:
        timesteps: where the steps of a chunk begin, and the final 0; of 1000. None are as many Euler steps as the
            pipeline takes for a whole clip.
        sampler: "euler" follows the velocity; "renoise" goes all the way in every step and back with fresh noise, as in
            a student's training.
        guidance_scale: above 1, the text is followed more closely, at twice the cost.
        leash: None tells all cameras relative to the first frame and the first chunk as long ago as it is.
    """

    chunks: ChunkSettings = ChunkSettings(window=2, sink=True)
    timesteps: tuple[float, ...] = (1000.0, 960.0, 889.0, 727.0, 0.0)
    sampler: Literal["euler", "renoise"] = "euler"
    guidance_scale: float = 1.0
    leash: Leash | None = None

    def __post_init__(self) -> None:
        falling = all(b < a for a, b in pairwise((1000.1, *self.timesteps)))
        if self.timesteps and (len(self.timesteps) < 2 or not falling or self.timesteps[-1] != 0):
            raise InputError(
                f"stream.timesteps is {list(self.timesteps)}; they must fall from at most 1000, the last one to 0"
            )

    @property
    def sigmas(self) -> list[float]:
        """Noise levels of the timesteps."""
        return [timestep / 1000 for timestep in self.timesteps]


@dataclass(frozen=True)
class PipelineSettings:
    """What a model makes unless told otherwise: picture size in pixels, frames, the sampler that suits its weights.

    Attributes:
        stream: how it makes chunk after chunk; None for a model that was not trained to.
    """

    height: int
    width: int
    fps: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    flow_shift: float
    sampler: Literal["flow_euler_ltx", "flow_dpm-solver"] = "flow_euler_ltx"
    stream: StreamSettings | None = None


TRANSFORMERS: dict[str, TransformerConfig] = {
    "2.6b": TransformerConfig(softmax_scale_cam=128**-0.5),
    "nano": TransformerConfig(
        depth=8,
        width=320,
        num_heads=5,
        in_channels=96,
        caption_channels=192,
        caption_tokens=64,
        softmax_every_n=2,
        mlp_ratio=2.5,
        truncate_timesteps=False,
    ),
}

PIPELINES: dict[str, PipelineSettings] = {
    "2.6b": PipelineSettings(
        height=704, width=1280, fps=16, num_frames=161, num_inference_steps=60, guidance_scale=5.0, flow_shift=9.8
    ),
    "nano": PipelineSettings(
        height=192, width=320, fps=16, num_frames=81, num_inference_steps=16, guidance_scale=1.0, flow_shift=3.0
    ),
}
