"""The LTX-2 codec: frame counts, normalisation, and tiles that show every frame at its own time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.checkpoints.components import load_ltx2_codec
from sana_wm.errors import InputError
from sana_wm.models.ltx2_tiling import Tiling, stride_without_slivers
from sana_wm.models.ltx2_vae import Ltx2Codec, build_ltx2_vae

TINY = {
    "_class_name": "AutoencoderKLLTX2Video",
    "_diffusers_version": "0.42.1",
    "latent_channels": 8,
    "block_out_channels": [8, 8, 16, 16],
    "layers_per_block": [1, 1, 1, 1, 1],
    "decoder_block_out_channels": [8, 16, 32],
    "decoder_layers_per_block": [1, 1, 1, 1],
    "decoder_causal": False,
}
SMALL_TILES = {"tile_frames": 24, "stride_frames": 16}
CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_vae(**changes: Any) -> Any:
    vae = build_ltx2_vae(TINY | changes).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in vae.parameters():
            fan_in = max(parameter[0].numel(), 1)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)
        vae.latents_mean.copy_(random(8, seed=1) * 0.2)
        vae.latents_std.copy_(random(8, seed=2).abs() + 0.5)
    return vae


def codec(**tiling: Any) -> Ltx2Codec:
    return Ltx2Codec(tiny_vae(), Tiling(**tiling))


def short_reach(**tiling: Any) -> Ltx2Codec:
    """Without the repeated blocks, what a pixel depends on is small next to a tile."""
    vae = tiny_vae(decoder_layers_per_block=[0, 0, 0, 0], layers_per_block=[0, 0, 0, 0, 0])
    return Ltx2Codec(vae, Tiling(**tiling))


class Clock(torch.nn.Module):
    """A decoder that shows the time: pixel frame i of a clip whose latent k holds 8 k is the number i, over 1000."""

    def forward(self, z: Tensor, temb: object = None, causal: object = None) -> Tensor:
        first = z[:, :1, :1, :1, :1]
        frames = torch.arange(8 * (z.shape[2] - 1) + 1).view(1, 1, -1, 1, 1)
        times = (first + frames) / 1000
        return times.expand(-1, 3, -1, z.shape[-2] * 32, z.shape[-1] * 32).clone()


def clock_codec(**tiling: Any) -> Ltx2Codec:
    built = codec(**tiling)
    built.vae.decoder = Clock()
    with torch.no_grad():
        built.vae.latents_mean.zero_()
        built.vae.latents_std.fill_(1)
    return built


def clock_latents(count: int, height: int = 2, width: int = 2) -> Tensor:
    return (8.0 * torch.arange(count)).view(1, 1, -1, 1, 1).expand(1, 8, -1, height, width).clone()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [(2, 2), (3, 5)])
def test_frames_and_latents_correspond(count: int, size: tuple[int, int]) -> None:
    built, (height, width) = codec(), size
    video = random(1, 3, 8 * (count - 1) + 1, 32 * height, 32 * width).clamp(-1, 1)
    latents = built.encode(video)
    assert latents.shape == (1, 8, count, height, width)
    decoded = built.decode(latents)
    assert decoded.shape == video.shape
    assert decoded.dtype == latents.dtype == torch.float32
    assert float(decoded.abs().max()) <= 1
    assert (built.latent_channels, built.temporal_stride, built.spatial_stride) == (8, 8, 32)


def test_an_image_is_encoded_as_the_first_latent_of_any_video() -> None:
    built, video = codec(), random(1, 3, 17, 64, 64)
    assert torch.allclose(built.encode(video)[:, :, :1], built.encode(video[:, :, :1]), atol=1e-5)


def test_latents_are_the_normalised_mode_of_the_posterior() -> None:
    built, video = codec(), random(1, 3, 9, 64, 64)
    with torch.no_grad():
        mode = built.vae.encode(video).latent_dist.mean
    mean, std = (getattr(built.vae, f"latents_{name}").view(-1, 1, 1, 1) for name in ("mean", "std"))
    assert torch.allclose(built.encode(video), (mode - mean) / std, atol=1e-5)
    assert torch.allclose(built.denormalize(built.encode(video)), mode, atol=1e-5)


def test_the_scaling_factor_of_the_config_counts() -> None:
    built = Ltx2Codec(tiny_vae(scaling_factor=0.5))
    x = random(1, 8, 1, 2, 2)
    assert torch.allclose(built.normalize(x), 0.5 * codec().normalize(x))
    assert torch.allclose(built.denormalize(built.normalize(x)), x, atol=1e-6)


def test_bfloat16_weights_give_float32_pixels() -> None:
    vae = tiny_vae()
    exact = Ltx2Codec(vae).decode(random(1, 8, 1, 2, 2))
    rounded = Ltx2Codec(vae.to(torch.bfloat16)).decode(random(1, 8, 1, 2, 2))
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded, exact, atol=0.1)


@pytest.mark.parametrize("shape", [(8, 64, 64), (9, 60, 64), (9, 64, 65)])
def test_videos_the_strides_do_not_divide_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="8 k \\+ 1 frames"):
        codec().encode(torch.zeros(1, 3, *shape))


def test_latents_too_small_to_pad_are_refused() -> None:
    with pytest.raises(InputError, match="latents are 1 x 4"):
        codec().decode(torch.zeros(1, 8, 1, 1, 4))


@pytest.mark.parametrize("count", [1, 12, 13, 14, 16, 17, 18, 21, 25, 41, 121])
def test_every_frame_is_shown_at_its_own_time(count: int) -> None:
    frames = clock_codec().decode(clock_latents(count))[0, 0, :, 0, 0] * 1000
    assert torch.allclose(frames, torch.arange(8.0 * (count - 1) + 1), atol=1e-2)


def test_diffusers_own_tiling_lags_by_a_frame() -> None:
    """The defect that the aligned way is there for; the option exists to compare with it."""
    frames = clock_codec(temporal="diffusers").decode(clock_latents(41))[0, 0, :, 0, 0] * 1000
    true = torch.arange(321.0)
    assert torch.allclose(frames[:65], true[:65], atol=1e-2)
    assert torch.allclose(frames[65:97], true[65:97] - torch.arange(32) / 32, atol=1e-2)
    assert torch.allclose(frames[97:], true[97:] - 1, atol=1e-2)


def test_tiles_cross_fade_linearly_into_each_other() -> None:
    built = clock_codec()

    class Numbered(torch.nn.Module):
        """Every tile is one grey: the number of latents that came before it."""

        def forward(self, z: Tensor, temb: object = None, causal: object = None) -> Tensor:
            frames = 8 * (z.shape[2] - 1) + 1
            return (z[:, :1, :1, :1, :1] / 1000).expand(-1, 3, frames, z.shape[-2] * 32, z.shape[-1] * 32).clone()

    built.vae.decoder = Numbered()
    frames = built.decode(clock_latents(21))[0, 0, :, 0, 0] * 1000
    ramp = torch.arange(32) / 32
    assert torch.equal(frames[:65], torch.zeros(65))
    assert torch.allclose(frames[65:97], 64 * ramp, atol=1e-3)
    assert torch.allclose(frames[97:129], torch.full((32,), 64.0), atol=1e-3)
    assert torch.allclose(frames[129:161], 64 + 64 * ramp, atol=1e-3)


def test_the_interior_of_temporal_tiles_is_the_untiled_video() -> None:
    z = random(1, 8, 29, 2, 2)
    tiled, whole = short_reach().decode(z), short_reach(temporal="off").decode(z)
    assert tiled.shape == whole.shape
    # The second tile starts at frame 64, has faded in at 97 and starts to fade out at 129.
    assert torch.allclose(tiled[:, :, 97:129], whole[:, :, 97:129], atol=1e-4)
    assert torch.allclose(tiled[:, :, :65], whole[:, :, :65], atol=1e-4)
    assert not torch.allclose(tiled[:, :, 65:97], whole[:, :, 65:97], atol=1e-4)


def test_decoding_in_segments_is_decoding_at_once() -> None:
    built, z = codec(**SMALL_TILES), random(1, 8, 6, 2, 2)
    segments = list(built.decode_segments(z))
    assert [segment.shape[2] for segment in segments] == [17, 16, 8]
    seen: list[tuple[int, int]] = []
    assert torch.equal(torch.cat(segments, 2), built.decode(z, lambda done, total: seen.append((done, total))))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_diffusers_option_is_diffusers() -> None:
    built, z = codec(temporal="diffusers", **SMALL_TILES), random(1, 8, 5, 2, 2)
    with torch.no_grad():
        expected = built.vae.decode(built.denormalize(z)).sample
    assert torch.equal(built.decode(z), expected.clamp(-1, 1))


def test_temporal_encoding_tiles_are_aligned() -> None:
    video = random(1, 3, 161, 32, 32)
    tiled, whole = short_reach().encode(video), short_reach(temporal="off").encode(video)
    assert tiled.shape == whole.shape == (1, 8, 21, 1, 1)
    # The second tile starts at frame 64, so at latent 8, and has faded in at latent 13;
    # one more is within the encoder's reach.
    assert torch.allclose(tiled[:, :, 14:17], whole[:, :, 14:17], atol=1e-5)
    assert torch.allclose(tiled[:, :, :9], whole[:, :, :9], atol=1e-5)


def test_the_interior_of_spatial_tiles_is_the_untiled_picture() -> None:
    z = random(1, 8, 1, 22, 18)
    tiled, whole = short_reach().decode(z), short_reach(spatial=False).decode(z)
    assert tiled.shape == whole.shape == (1, 3, 1, 704, 576)
    # The first tile ends at pixel 512, three latents beyond what must not depend on it; the next starts at 448.
    assert torch.allclose(tiled[..., :416, :416], whole[..., :416, :416], atol=1e-4)
    assert torch.allclose(tiled[..., 544:, :416], whole[..., 544:, :416], atol=1e-4)
    assert not torch.allclose(tiled[..., 448:512, :], whole[..., 448:512, :], atol=1e-4)


@pytest.mark.parametrize("sizes", [(7,), (4, 3), (1, 3, 3), (1,) * 7])
def test_decoding_with_a_remembered_past_is_the_full_causal_decode(sizes: tuple[int, ...]) -> None:
    built, z = Ltx2Codec(tiny_vae(decoder_causal=True), Tiling(spatial=False, temporal="off")), random(2, 8, 7, 2, 3)
    tails, made, memory = (), [], set()
    for chunk in z.split(sizes, dim=2):
        before = [tail.clone() for tail in tails]
        frames, after = built.decode_next(chunk, tails)
        assert all(map(torch.equal, before, tails))  # the past can be taken up again
        tails = after
        made.append(frames)
        memory.add(sum(tail.untyped_storage().nbytes() for tail in tails))
    assert [frames.shape[2] for frames in made] == [8 * sizes[0] - 7, *(8 * size for size in sizes[1:])]
    assert torch.allclose(torch.cat(made, 2), built.decode(z), atol=1e-5)
    assert memory == {sum(tail.nbytes for tail in tails)}  # constant, and nothing but the tails


def test_the_full_decoder_remembers_as_much_as_published() -> None:
    """568 MiB at 704 x 1280 in 16 bits (spec 41, section 5); here 22 x 40 latents of 4 x 4 where they are 32 x 32."""
    with torch.device("meta"):
        built = Ltx2Codec(build_ltx2_vae({"_class_name": "AutoencoderKLLTX2Video", "decoder_causal": True}).bfloat16())
        _, tails = built.decode_next(torch.zeros(1, 128, 4, 22, 40))
    assert len(tails) == 45
    assert round(sum(tail.nbytes for tail in tails) / 2**20) == 568


def test_a_decoder_that_cannot_stream_is_refused() -> None:
    z = random(1, 8, 1, 2, 2)
    with pytest.raises(InputError, match="decoder_causal is false"):
        codec().decode_next(z)
    noisy = tiny_vae(decoder_causal=True, decoder_inject_noise=[True, False, False, False])
    with pytest.raises(InputError, match="per_channel_scale1"):
        Ltx2Codec(noisy).decode_next(z)
    with pytest.raises(InputError, match="latents are 1 x 4"):
        Ltx2Codec(tiny_vae(decoder_causal=True)).decode_next(random(1, 8, 1, 1, 4))


@pytest.mark.parametrize("size", [(17, 29), (22, 40), (16, 17), (31, 57)])
def test_no_tile_is_a_sliver_that_cannot_be_padded(size: tuple[int, int]) -> None:
    built = short_reach()
    assert built.decode(random(1, 8, 1, *size)).shape[-2:] == (32 * size[0], 32 * size[1])
    strides = [stride_without_slivers(n, 16, 14) for n in size]
    assert all(n <= 16 or n - n // s * s != 1 for n, s in zip(size, strides, strict=True))


def test_the_releases_tiles_at_720p() -> None:
    built = codec()
    tiles: list[tuple[int, ...]] = []
    built.vae.decoder.register_forward_pre_hook(lambda _m, args: tiles.append(tuple(args[0].shape[-2:])))
    built.decode(torch.zeros(1, 8, 1, 22, 40))
    assert tiles == [(16, 16), (16, 16), (16, 12), (8, 16), (8, 16), (8, 12)]
    assert (built.vae.tile_sample_stride_height, built.vae.tile_sample_stride_width) == (448, 448)


def test_the_compression_ratios_are_given_whatever_the_config_says() -> None:
    for config in (TINY, TINY | {"spatial_compression_ratio": 64, "temporal_compression_ratio": None}):
        vae = build_ltx2_vae(config)
        assert (vae.spatial_compression_ratio, vae.temporal_compression_ratio) == (32, 8)


def test_the_streaming_releases_class_is_the_same_vae_with_a_causal_decoder() -> None:
    config = TINY | {"_class_name": "AutoencoderKLCausalLTX2Video", "decoder_upsample_type": None}
    del config["decoder_causal"]
    vae, same = build_ltx2_vae(config), tiny_vae(decoder_causal=True)
    vae.load_state_dict(same.state_dict())
    z = random(1, 8, 3, 2, 2)
    assert torch.equal(Ltx2Codec(vae).decode(z), Ltx2Codec(same).decode(z))
    kinds = ["spatiotemporal"] * 3
    assert build_ltx2_vae(config | {"decoder_upsample_type": kinds}).config.upsample_type == kinds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "AutoencoderKLLTXVideo"}, "'AutoencoderKLLTXVideo'"),
        ({"patch_size": 2}, "compresses 8 x 16 x 16"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
)
def test_another_vae_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_ltx2_vae(TINY | change)


@pytest.mark.parametrize(
    "change",
    [{"temporal": "late"}, {"tile_pixels": 100}, {"stride_pixels": 0}, {"tile_frames": 200}, {"stride_frames": 128}],
)
def test_tiles_that_cannot_be_laid_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="tiling"):
        Tiling(**change)


def test_the_full_vae_has_the_published_size() -> None:
    with torch.device("meta"):
        vae = build_ltx2_vae({"_class_name": "AutoencoderKLLTX2Video"})
    encoder, decoder = (sum(p.numel() for p in part.parameters()) for part in (vae.encoder, vae.decoder))
    assert (encoder, decoder) == (694_098_881, 528_380_720)
    assert len(vae.state_dict()) == 184


def test_a_diffusers_folder_loads_strictly(tmp_path: Path) -> None:
    vae = tiny_vae()
    vae.save_pretrained(tmp_path, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["spatial_compression_ratio"], config["temporal_compression_ratio"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_ltx2_codec(tmp_path, device=CPU, dtype=torch.float32)
    z = random(1, 8, 2, 2, 3)
    assert torch.equal(loaded.decode(z), Ltx2Codec(vae).decode(z))
    half = load_ltx2_codec(tmp_path, device=CPU, dtype=torch.bfloat16)
    assert next(half.parameters()).dtype == torch.bfloat16
    assert half.vae.latents_mean.dtype == torch.float32
    config["layers_per_block"] = [1, 1, 1, 1, 2]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="missing"):
        load_ltx2_codec(tmp_path, device=CPU, dtype=torch.float32)
