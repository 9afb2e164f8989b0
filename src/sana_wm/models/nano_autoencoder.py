"""The nano world's causal video autoencoder: 8 frames x 16 x 16 pixels to one latent.

A video of 8(T-1)+1 frames gets seven copies of its first frame in front, so that every latent stands for eight frames
and nothing in the network treats the first one specially; the decoder drops those seven again. Spatial work is done
frame by frame, time is mixed only by causal convolutions over two past frames, so encoder and decoder run chunk by
chunk with a constant state (:class:`TemporalState`) and give the same numbers as in one piece. Most of the work is at
1/8 and 1/16 of the resolution.

Frames are (B, T, C, H, W). On a CPU their channels lie last in memory, where its convolutions and products over time
are faster and need fewer copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.models.config import NanoAutoencoderConfig

PATCH = (2, 4, 4)
STEP = (2, 2, 2)
CHANNELS_A_GROUP = 16
CHUNK = 4
"""Latents coded at a time; bounds memory whatever the length."""
NUMBERS = 2**19
"""Numbers of frames at half the resolution of the last level that a CPU decodes at once: two megabytes."""


class TemporalState:
    """The last two frames that each temporal convolution saw, in order of execution."""

    LENGTH = 2

    def __init__(self) -> None:
        self._tails: list[Tensor] = []
        self._position = 0

    @property
    def tails(self) -> tuple[Tensor, ...]:
        """(B, 2, C, H, W) of every convolution, in order; empty before the first chunk."""
        return tuple(tail.clone() for tail in self._tails)  # not views, which would keep whole chunks alive

    @classmethod
    def of(cls, tails: Sequence[Tensor]) -> TemporalState:
        """The reverse of :attr:`tails`. No tail is ever changed in place, so states can share them."""
        state = cls()
        state._tails = list(tails)
        return state

    def rewind(self, position: int = 0) -> TemporalState:
        """Start of a chunk: the next `extend` belongs to the first convolution, or to that at `position`."""
        self._position = position
        return self

    def in_pieces(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """function(x) of frames (B, T, C, H, W) that passes them through this state, the same convolutions each time.

        On a CPU without gradients a few frames go through all of it before the next ones begin: what lies between two
        operations then stays in a cache, and memory is not asked for in large blocks that the system has to clear.
        """
        count = max(1, NUMBERS // x[:, 0].numel())
        if x.device.type != "cpu" or torch.is_grad_enabled() or count >= x.shape[1]:
            return function(x)
        start, made = self._position, []
        for piece in x.split(count, dim=1):
            self.rewind(start)
            made.append(function(piece))
        return torch.cat(made, dim=1)

    def extend(self, x: Tensor) -> Tensor:
        """(B, T, C, H, W) -> the same with two past frames in front; at the start of a video, its first frame twice."""
        first = self._position == len(self._tails)
        tail = x[:, :1].expand(-1, self.LENGTH, -1, -1, -1) if first else self._tails[self._position]
        extended = _frames_on(tail, x)
        if first:
            self._tails.append(extended[:, -self.LENGTH :])
        else:
            self._tails[self._position] = extended[:, -self.LENGTH :]
        self._position += 1
        return extended


def to_depth(x: Tensor, block: tuple[int, int, int]) -> Tensor:
    """Space and time to channels: (B, T, C, H, W) -> (B, T/t, C*t*h*w, H/h, W/w)."""
    t, h, w = block
    b, frames, c, height, width = x.shape
    x = x.reshape(b, frames // t, t, c, height // h, h, width // w, w)
    return x.permute(0, 1, 3, 2, 5, 7, 4, 6).reshape(b, frames // t, c * t * h * w, height // h, width // w)


def from_depth(x: Tensor, block: tuple[int, int, int]) -> Tensor:
    """Inverse of :func:`to_depth`."""
    t, h, w = block
    b, frames, c, height, width = x.shape
    x = x.reshape(b, frames, c // (t * h * w), t, h, w, height, width)
    if x.device.type == "cpu":
        return x.permute(0, 1, 3, 6, 4, 7, 5, 2).reshape(b, frames * t, height * h, width * w, -1).movedim(-1, 2)
    return x.permute(0, 1, 3, 2, 6, 4, 7, 5).reshape(b, frames * t, c // (t * h * w), height * h, width * w)


def _channels_last(x: Tensor) -> Tensor:
    """The same frames, on a CPU with channels last in memory."""
    return x.movedim(2, -1).contiguous().movedim(-1, 2) if x.device.type == "cpu" else x


def _frames_on(before: Tensor, x: Tensor) -> Tensor:
    """Frames before others, laid out as :func:`_channels_last` does."""
    if x.device.type != "cpu":
        return torch.cat([before, x], dim=1)
    return torch.cat([before.movedim(2, -1), x.movedim(2, -1)], dim=1).movedim(-1, 2)


def _silu(x: Tensor) -> Tensor:
    """SiLU of what nothing else reads; without gradients in its place, which spares a pass over new memory."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class SpatialConv(nn.Conv2d):
    """A 2-D convolution of every frame; (B, T, C, H, W) in and out."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class FrameNorm(nn.GroupNorm):
    """Group normalisation of each frame by itself, so that it neither looks ahead nor depends on the chunking."""

    def __init__(self, channels: int) -> None:
        super().__init__(max(1, channels // CHANNELS_A_GROUP), channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class CausalConv(nn.Module):
    """Dense convolution over the current and two past frames, per pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x: Tensor, state: TemporalState) -> Tensor:
        extended = state.extend(x)
        if x.device.type == "cpu":
            # Rows of an image are frames: three of them meet in a kernel, and nothing is copied together first.
            images = extended.movedim(2, -1).flatten(2, 3).movedim(-1, 1)
            weight = self.conv.weight.unflatten(1, (3, -1)).squeeze((-2, -1)).mT[..., None].contiguous()  # (C, C, 3, 1)
            return F.conv2d(images, weight, self.conv.bias).unflatten(-1, x.shape[3:]).movedim(1, 2)
        taps = torch.cat([extended[:, :-2], extended[:, 1:-1], extended[:, 2:]], dim=2)
        return self.conv(taps.flatten(0, 1)).unflatten(0, x.shape[:2])


class ResidualBlock(nn.Module):
    """Spatial 3x3, then causal temporal convolution; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(channels)
        self.spatial = SpatialConv(channels, channels)
        self.norm2 = FrameNorm(channels)
        self.temporal = CausalConv(channels)
        nn.init.zeros_(self.temporal.conv.weight)

    def forward(self, x: Tensor, state: TemporalState) -> Tensor:
        h = self.spatial(_silu(self.norm1(x)))
        mixed = self.temporal(_silu(self.norm2(h)), state)
        return x + mixed if torch.is_grad_enabled() else mixed.add_(x)


class Downsample(nn.Module):
    """Halve time, height and width; a mean over the folded channels is the shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.mix = SpatialConv(8 * in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        folded = _channels_last(to_depth(x, STEP))
        return self.mix(folded) + folded.unflatten(2, (self.out_channels, -1)).mean(3)


class Upsample(nn.Module):
    """Double time, height and width; repeated channels are the shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.repeats = 8 * out_channels // in_channels
        self.mix = SpatialConv(in_channels, 8 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x).unflatten(2, (x.shape[2], self.repeats)) + x[:, :, :, None]
        return from_depth(mixed.flatten(2, 3), STEP)


class Level(nn.ModuleList):
    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__(ResidualBlock(channels) for _ in range(blocks))

    def forward(self, x: Tensor, state: TemporalState) -> Tensor:
        for block in self:
            x = block(x, state)
        return x


class NanoEncoder(nn.Module):
    def __init__(self, config: NanoAutoencoderConfig) -> None:
        super().__init__()
        low, mid, high = config.widths
        patch = 3 * PATCH[0] * PATCH[1] * PATCH[2]
        self.conv_in = SpatialConv(patch, high)
        self.high = Level(high, config.encoder_blocks[2])
        self.down_mid = Downsample(high, mid)
        self.mid = Level(mid, config.encoder_blocks[1])
        self.down_low = Downsample(mid, low)
        self.low = Level(low, config.encoder_blocks[0])
        self.norm_out = FrameNorm(low)
        self.conv_out = SpatialConv(low, config.latent_channels)

    def forward(self, frames: Tensor, state: TemporalState) -> Tensor:
        """(B, 8T, 3, 16H, 16W) -> (B, T, C, H, W)."""
        x = self.high(self.conv_in(_channels_last(to_depth(frames, PATCH))), state)
        x = self.mid(self.down_mid(x), state)
        x = self.low(self.down_low(x), state)
        return self.conv_out(_silu(self.norm_out(x)))


class NanoDecoder(nn.Module):
    def __init__(self, config: NanoAutoencoderConfig) -> None:
        super().__init__()
        low, mid, high = config.widths
        patch = 3 * PATCH[0] * PATCH[1] * PATCH[2]
        self.conv_in = SpatialConv(config.latent_channels, low)
        self.low = Level(low, config.decoder_blocks[0])
        self.up_mid = Upsample(low, mid)
        self.mid = Level(mid, config.decoder_blocks[1])
        self.up_high = Upsample(mid, high)
        self.high = Level(high, config.decoder_blocks[2])
        self.norm_out = FrameNorm(high)
        self.conv_out = SpatialConv(high, patch)

    def forward(self, latents: Tensor, state: TemporalState) -> Tensor:
        """(B, T, C, H, W) -> (B, 8T, 3, 16H, 16W)."""
        x = self.low(self.conv_in(_channels_last(latents)), state)
        x = self.mid(self.up_mid(x), state)
        return state.in_pieces(lambda piece: self._frames(piece, state), x)

    def _frames(self, x: Tensor, state: TemporalState) -> Tensor:
        """The last level and what comes after it, which most of the numbers go through."""
        x = self.high(self.up_high(x), state)
        return from_depth(self.conv_out(_silu(self.norm_out(x))), PATCH)


class NanoAutoencoder(nn.Module):
    """Codec of the nano world; see the module's docstring.

    Attributes:
        latent_channels: channels of a latent.
        temporal_stride: 8 frames a latent.
        spatial_stride: 16 pixels a latent row or column.
    """

    temporal_stride = 8
    spatial_stride = 16
    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: NanoAutoencoderConfig) -> None:
        super().__init__()
        low, mid, high = config.widths
        if (low, mid) != (4 * high, 2 * high):
            raise InputError(f"codec.widths are {config.widths}; they must halve from level to level")
        self.config = config
        self.latent_channels = config.latent_channels
        self.encoder = NanoEncoder(config)
        self.decoder = NanoDecoder(config)
        self.register_buffer("latents_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latents_std", torch.ones(config.latent_channels))

    def encode_raw(self, video: Tensor) -> Tensor:
        """(B, 3, 8(T-1)+1, 16H, 16W) in [-1, 1] -> (B, T, C, H, W), not normalised; differentiable."""
        frames = _pad_first(video.transpose(1, 2))
        return self.encoder(frames, TemporalState())

    def decode_raw(self, latents: Tensor) -> Tensor:
        """Inverse of :meth:`encode_raw`, unclamped; differentiable."""
        frames = self.decoder(latents, TemporalState())
        return frames[:, self.temporal_stride - 1 :].transpose(1, 2)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """(B, 3, F, H, W) in [-1, 1], F = 8k+1 -> normalised latents (B, C, k+1, H/16, W/16).

        Raises:
            InputError: the video has a length or size that the strides do not divide.
        """
        frames, height, width = video.shape[2:]
        stride = self.spatial_stride
        if (frames - 1) % self.temporal_stride or height % stride or width % stride:
            raise InputError(
                f"video of {frames} frames, {height}x{width} pixels: "
                f"the codec takes 8k+1 frames and multiples of {stride}"
            )
        padded = _pad_first(video.transpose(1, 2))
        state = TemporalState()
        step = CHUNK * self.temporal_stride
        parts = [self.encoder(part, state.rewind()) for part in padded.split(step, dim=1)]
        latents = (torch.cat(parts, dim=1) - _over_channels(self.latents_mean)) / _over_channels(self.latents_std)
        return latents.transpose(1, 2)

    def decode(self, latents: Tensor, progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Normalised latents (B, C, T, H, W) -> video (B, 3, 8(T-1)+1, 16H, 16W) float32 in [-1, 1]."""
        total, parts = latents.shape[2], []
        for index, part in enumerate(self.decode_segments(latents), start=1):
            parts.append(part)
            if progress is not None:
                progress(min(index * CHUNK, total), total)
        return torch.cat(parts, dim=2)

    def decode_segments(self, latents: Tensor) -> Iterator[Tensor]:
        """The same video piece by piece, (B, 3, f, 16H, 16W) each, in constant memory."""
        tails: tuple[Tensor, ...] = ()
        for chunk in latents.split(CHUNK, dim=2):
            frames, tails = self.decode_next(chunk, tails)
            yield frames

    def check_streams(self) -> None:
        """Nothing to refuse: this codec's decoder never sees later frames."""

    @torch.no_grad()
    def decode_next(self, latents: Tensor, tails: Sequence[Tensor] = ()) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frames of a video whose decoder remembers `tails`, nothing at its beginning.

        Args:
            latents: (B, C, n, H, W) normalised.

        Returns:
            (B, 3, 8n, 16H, 16W) float32 in [-1, 1], at the beginning 8(n-1)+1 frames; and what is remembered after it.
        """
        raw = latents.transpose(1, 2) * _over_channels(self.latents_std) + _over_channels(self.latents_mean)
        state, skip = TemporalState.of(tails), 0 if tails else self.temporal_stride - 1
        frames = self.decoder(raw.to(self.decoder.conv_in.weight.dtype), state)
        return frames.float().clamp_(-1, 1)[:, skip:].transpose(1, 2), state.tails


def _pad_first(frames: Tensor) -> Tensor:
    """Seven copies of the first frame in front: (B, F, ...) -> (B, F + 7, ...)."""
    copies = frames[:, :1].expand(-1, NanoAutoencoder.temporal_stride - 1, -1, -1, -1)
    return torch.cat([copies, frames], dim=1)


def _over_channels(x: Tensor) -> Tensor:
    return x[:, None, None]
