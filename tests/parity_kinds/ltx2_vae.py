"""Golden files of the LTX-2 codec: decoding whole, chunk by chunk and in tiles, and encoding (spec 41)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sana_wm.models.ltx2_stream import decode_chunk
from sana_wm.models.ltx2_tiling import Tiling
from sana_wm.models.ltx2_vae import Ltx2Codec, build_ltx2_vae
from tests.parity_kinds.base import Check, Fixture, Kind

DECODE, ENCODE = 5e-5, 1e-5


def codec_of(fixture: Fixture, tiling: Tiling, *, causal: bool) -> Ltx2Codec:
    vae = build_ltx2_vae({**fixture.config["vae"], "decoder_causal": causal})
    vae.load_state_dict(fixture.group("weights."))
    return Ltx2Codec(vae.eval(), tiling)


def sparse(video: Tensor) -> Tensor:
    """What the file keeps of a video."""
    return video[..., ::5, ::5]


def vae(fixture: Fixture) -> Iterator[Check]:
    t, whole = fixture.tensors, Tiling(spatial=False, temporal="off")
    causal, both_ways = (codec_of(fixture, whole, causal=causal) for causal in (True, False))
    z = causal.denormalize(t["in.latent_norm"])

    # One chunk that is the whole video, and the same through diffusers' own forward pass.
    for frames in (decode_chunk(causal.vae.decoder, z, ())[0], causal.vae.decode(z).sample):
        yield Check("out.decode_causal_full_sub5", sparse(frames), t["out.decode_causal_full_sub5"], DECODE)
    frames = both_ways.vae.decode(z).sample
    yield Check("out.decode_noncausal_full_sub5", sparse(frames), t["out.decode_noncausal_full_sub5"], DECODE)

    tails: tuple[Tensor, ...] = ()
    for number, chunk in enumerate(z.split(fixture.config["chunks"], dim=2)):
        frames, tails = decode_chunk(causal.vae.decoder, chunk, tails)
        name = f"out.stream_chunk{number}_sub5"
        yield Check(name, sparse(frames), t[name], DECODE)
    flags = (3, 7, 11)  # slots of the release that hold no tensor of a convolution
    slots = [slot for slot in range(len(tails) + len(flags)) if slot not in flags]
    for slot, tail in zip(slots, tails, strict=True):
        name = f"out.cache_after.slot{slot}"
        if name in t:
            yield Check(name, tail, t[name], DECODE)

    posterior = both_ways.vae.encode(t["in.video"]).latent_dist
    yield Check("out.encode_moments_mean", posterior.mean, t["out.encode_moments_mean"], ENCODE)
    yield Check("out.encode_moments_logvar", posterior.logvar, t["out.encode_moments_logvar"], ENCODE)
    yield Check("out.encode_norm", both_ways.encode(t["in.video"]), t["out.encode_norm"], ENCODE)
    yield from _tiles(fixture)


def _tiles(fixture: Fixture) -> Iterator[Check]:
    """diffusers' tiling, with its lag, which our option for comparing with it is."""
    t, sizes = fixture.tensors, fixture.config["tile"]
    raw = t["in.tile.latent_raw"]
    tiles = {
        "tile_pixels": sizes["min"], "stride_pixels": sizes["stride"],
        "tile_frames": sizes["min_t"], "stride_frames": sizes["stride_t"],
    }  # fmt: skip
    cases = {
        "untiled": Tiling(spatial=False, temporal="off"),
        "spatial": Tiling(temporal="off", **tiles),
        "spatiotemporal": Tiling(temporal="diffusers", **tiles),
    }
    for case, tiling in cases.items():
        codec = codec_of(fixture, tiling, causal=False)
        codec.vae.tile_sample_stride_height = codec.vae.tile_sample_stride_width = sizes["stride"]
        name = f"out.tile.decode_{case}_sub5"
        yield Check(name, sparse(codec.vae.decode(raw).sample), t[name], DECODE)


KINDS = [Kind("refiner_vae_tiny", lambda f: f.has("in.latent_norm", "in.tile.latent_raw"), vae)]
