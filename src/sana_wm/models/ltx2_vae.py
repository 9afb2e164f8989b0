"""The video codec of the 2.6B model: diffusers' LTX-2 autoencoder with tiling that is aligned in time (spec 41).

One latent stands for 8 x 32 x 32 pixels: F = 8 (T - 1) + 1 frames and T latents, latent 0 for frame 0 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.models.ltx2_stream import check_streams, decode_chunk
from sana_wm.models.ltx2_tiling import SPATIAL_STRIDE, TEMPORAL_STRIDE, Tiling, fade_in, stride_without_slivers

CAUSAL_CLASS = "AutoencoderKLCausalLTX2Video"
"""The class of the streaming release: the same layers and keys, but for two settings with a decoder that is causal."""
MIN_LATENTS = 2
"""Smallest latent height and width the decoder takes: it pads by reflection."""


class Ltx2Codec(nn.Module):
    """Video to normalised latents and back."""

    spatial_stride = SPATIAL_STRIDE
    temporal_stride = TEMPORAL_STRIDE

    def __init__(self, vae: Any, tiling: Tiling = Tiling()) -> None:  # noqa: B008 (frozen)
        """`vae` is an `AutoencoderKLLTX2Video`, as from :func:`build_ltx2_vae`; its tiling settings are overwritten."""
        super().__init__()
        self.vae = vae
        self.tiling = tiling
        vae.enable_tiling(
            tile_sample_min_height=tiling.tile_pixels,
            tile_sample_min_width=tiling.tile_pixels,
            tile_sample_min_num_frames=tiling.tile_frames,
            tile_sample_stride_num_frames=tiling.stride_frames,
        )
        vae.use_tiling = tiling.spatial
        # Both switches: diffusers asks the decoding one when it encodes.
        vae.use_framewise_encoding = vae.use_framewise_decoding = tiling.temporal != "off"

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    def normalize(self, latents: Tensor) -> Tensor:
        """Posterior means (B,C,T,h,w) to the latents every other stage works on, float32."""
        mean, std = self._statistics()
        return (latents.float() - mean) * (self.vae.config.scaling_factor / std)

    def denormalize(self, latents: Tensor) -> Tensor:
        """Inverse of :meth:`normalize`, float32."""
        mean, std = self._statistics()
        return latents.float() * (std / self.vae.config.scaling_factor) + mean

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Video (B,3,F,H,W) in [-1, 1] to normalised latents (B,C,T,h,w), float32: the mode of the posterior.

        Raises:
            InputError: F is not 8 k + 1, or H or W is not a multiple of 32.
        """
        frames, height, width = video.shape[2:]
        if frames % TEMPORAL_STRIDE != 1 or height % SPATIAL_STRIDE or width % SPATIAL_STRIDE:
            raise InputError(
                f"the video has {frames} frames of {height} x {width}; the codec takes 8 k + 1 frames "
                "whose height and width are multiples of 32"
            )
        self._set_strides(self.tiling.stride_pixels, self.tiling.stride_pixels)
        weight = next(self.vae.parameters())
        return self.normalize(self.vae.encode(video.to(weight.device, weight.dtype)).latent_dist.mode())

    def decode(self, latents: Tensor, progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Normalised latents (B,C,T,h,w) to video (B,3,F,H,W) float32 in [-1, 1]; `progress` gets tiles done and in
        all."""
        batch, _, count, height, width = latents.shape
        total = len(self._starts(count))
        video = torch.empty(
            (batch, 3, (count - 1) * TEMPORAL_STRIDE + 1, height * SPATIAL_STRIDE, width * SPATIAL_STRIDE),
            device=latents.device,
        )
        written = 0
        for done, frames in enumerate(self.decode_segments(latents), start=1):
            video[:, :, written : written + frames.shape[2]] = frames
            written += frames.shape[2]
            if progress is not None:
                progress(done, total)
        return video

    @torch.no_grad()
    def decode_segments(self, latents: Tensor) -> Iterator[Tensor]:
        """The video of :meth:`decode` in pieces (B,3,f,H,W) as they are finished, so that nobody need hold all of it.

        Raises:
            InputError: latents are smaller than 2 x 2.
        """
        z = self._to_decode(latents)
        count, height, width = z.shape[2:]
        if self.tiling.temporal == "diffusers":
            self._set_decode_strides(height, width)
            yield self.vae.decode(z).sample.float().clamp(-1, 1)
            return
        starts = self._starts(count)
        tail: Tensor | None = None
        for start in starts:
            last = start == starts[-1]
            length = count if len(starts) == 1 else self.tiling.tile_frames // TEMPORAL_STRIDE + 1
            tile = self._decode_tile(z[:, :, start : start + length]).float()
            if start > 0:
                tile = tile[:, :, 1:]  # frame 8 * start again, which the tile before has shown
            if tail is not None:
                fade_in(tile, tail)
            kept = tile.shape[2] if last else self.tiling.stride_frames + (start == 0)
            tail = tile[:, :, kept:].clone()
            yield tile[:, :, :kept].clamp(-1, 1)

    def check_streams(self) -> None:
        """Refuse to stream with a decoder that sees later frames.

        Raises:
            InputError: it does.
        """
        check_streams(self.vae.decoder)

    @torch.no_grad()
    def decode_next(self, latents: Tensor, tails: Sequence[Tensor] = ()) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frames of a video whose decoder remembers `tails`, nothing at its beginning; without tiles.

        Args:
            latents: (B,C,n,h,w) normalised.

        Returns:
            (B,3,8n,32h,32w) float32 in [-1, 1], at the beginning 8(n-1)+1 frames; and what is remembered after it.

        Raises:
            InputError: the decoder sees later frames, or latents are smaller than 2 x 2.
        """
        self.check_streams()
        frames, tails = decode_chunk(self.vae.decoder, self._to_decode(latents), tails)
        return frames.float().clamp(-1, 1), tails

    def _to_decode(self, latents: Tensor) -> Tensor:
        """Normalised latents as the decoder takes them."""
        height, width = latents.shape[3:]
        if min(height, width) < MIN_LATENTS:
            raise InputError(
                f"latents are {height} x {width}; the LTX-2 decoder needs at least {MIN_LATENTS} x {MIN_LATENTS}"
            )
        weight = next(self.vae.parameters())
        return self.denormalize(latents.to(weight.device)).to(weight.dtype)

    def _starts(self, count: int) -> list[int]:
        """First latents of the temporal tiles of `count` latents."""
        if self.tiling.temporal != "aligned" or count <= self.tiling.tile_frames // TEMPORAL_STRIDE:
            return [0]
        starts = range(0, count, self.tiling.stride_frames // TEMPORAL_STRIDE)
        # A tile of one latent would hold nothing but the duplicate frame.
        return [start for start in starts if start < count - 1]

    def _decode_tile(self, z: Tensor) -> Tensor:
        height, width = z.shape[-2:]
        if self.tiling.spatial and max(height, width) > self.tiling.tile_pixels // SPATIAL_STRIDE:
            self._set_decode_strides(height, width)
            return self.vae.tiled_decode(z, None).sample
        return self.vae.decoder(z, None)

    def _set_decode_strides(self, height: int, width: int) -> None:
        tile, stride = (n // SPATIAL_STRIDE for n in (self.tiling.tile_pixels, self.tiling.stride_pixels))
        rows, columns = (stride_without_slivers(n, tile, stride) for n in (height, width))
        self._set_strides(rows * SPATIAL_STRIDE, columns * SPATIAL_STRIDE)

    def _set_strides(self, rows: int, columns: int) -> None:
        self.vae.tile_sample_stride_height = rows
        self.vae.tile_sample_stride_width = columns

    def _statistics(self) -> tuple[Tensor, Tensor]:
        shape = (1, -1, 1, 1, 1)
        return self.vae.latents_mean.float().view(shape), self.vae.latents_std.float().view(shape)


def build_ltx2_vae(config: Mapping[str, Any]) -> Any:
    """`AutoencoderKLLTX2Video` from the content of its config.json, with both compression ratios given explicitly.

    Left out of the config, the class derives 64 and 16 for the LTX-2 layout, which silently breaks tiling and frame
    counts.

    Raises:
        InputError: it is the config of another class, or of a VAE that does not compress 8 x 32 x 32.
    """
    from diffusers import AutoencoderKLLTX2Video

    name = config.get("_class_name", "AutoencoderKLLTX2Video")
    values = {key: value for key, value in config.items() if not key.startswith("_")}
    if name == CAUSAL_CLASS:
        values.setdefault("decoder_causal", True)
        upsampling = values.pop("decoder_upsample_type", None)
        values |= {} if upsampling is None else {"upsample_type": upsampling}
    elif name != "AutoencoderKLLTX2Video":
        raise InputError(f"the VAE's config names the class {name!r}; AutoencoderKLLTX2Video is what can be loaded")
    values |= {"spatial_compression_ratio": SPATIAL_STRIDE, "temporal_compression_ratio": TEMPORAL_STRIDE}
    try:
        vae = AutoencoderKLLTX2Video(**values)
    except TypeError as error:
        raise InputError(f"the VAE's config does not fit AutoencoderKLLTX2Video ({error})") from error
    temporal, spatial = _compression(vae.config)
    if (temporal, spatial) != (TEMPORAL_STRIDE, SPATIAL_STRIDE):
        raise InputError(
            f"the VAE compresses {temporal} x {spatial} x {spatial}; the model needs one of "
            f"{TEMPORAL_STRIDE} x {SPATIAL_STRIDE} x {SPATIAL_STRIDE}"
        )
    return vae


def _compression(config: Any) -> tuple[int, int]:
    """What the layers of the encoder really do to time and to height and width."""
    scaling = config.spatio_temporal_scaling
    steps = [scaling] * len(config.downsample_type) if isinstance(scaling, bool) else scaling
    kinds = [kind for kind, on in zip(config.downsample_type, steps, strict=False) if on]
    temporal = config.patch_size_t * 2 ** sum(kind != "spatial" for kind in kinds)
    spatial = config.patch_size * 2 ** sum(kind != "temporal" for kind in kinds)
    return temporal, spatial
