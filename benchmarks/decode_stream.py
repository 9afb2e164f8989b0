"""How long the 2.6B model's decoder takes for a chunk of a stream, with its kernel and with plain operations.

Weights and latents are random. Prints seconds of both, how far each is from the same in float32, and how long the
frames then take to the CPU.

Run: ``python benchmarks/decode_stream.py [--runs 10]`` on a CUDA device; ``--device cpu`` tries it with a tiny codec.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sana_wm.checkpoints.random_presets import LTX2_VAE, RANDOM_PRESETS
from sana_wm.engine.pixels import to_frames, to_levels
from sana_wm.evaluation.speed import timed
from sana_wm.evaluation.stream_speed import random_ltx2
from sana_wm.models.ltx2_stream import decode_chunk
from sana_wm.models.ltx2_vae import Ltx2Codec
from sana_wm.ops.dispatch import plain_only

LATENTS = 3


def far(video: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference as a part of the standard deviation."""
    return float((video.float() - exact).square().mean().sqrt() / exact.std())


@torch.inference_mode()
def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    device = torch.device(args.device)
    full = device.type == "cuda"
    config, grid = (dict(LTX2_VAE), (22, 40)) if full else (dict(RANDOM_PRESETS["tiny"].vae), (3, 4))
    codec = random_ltx2(config, device, torch.bfloat16)
    assert isinstance(codec, Ltx2Codec)
    decoder = codec.vae.decoder
    generator = torch.Generator().manual_seed(0)
    first, chunk = (
        torch.randn(1, codec.latent_channels, n, *grid, generator=generator).to(device, torch.bfloat16)
        for n in (1 + LATENTS, LATENTS)
    )
    with plain_only():
        _, tails = decode_chunk(decoder, first, ())
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if full else "cpu", "torch": torch.__version__}
    made = {}
    for name, way in (("kernel", nullcontext()), ("plain", plain_only())):
        with way:
            found[name] = timed(lambda: decode_chunk(decoder, chunk, tails)[0], args.runs, device)
            made[name] = decode_chunk(decoder, chunk, tails)[0]
    found["times_as_fast"] = found["plain"]["seconds"] / found["kernel"]["seconds"]
    decoder.float()
    with plain_only(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        exact, _ = decode_chunk(decoder, chunk.float(), [tail.float() for tail in tails])
    found |= {f"{name}_from_float32": far(video, exact) for name, video in made.items()}
    pixels = made["plain"][0].float()
    found["to_frames"] = timed(lambda: torch.from_numpy(to_frames(pixels)), args.runs, device)
    levels = to_levels(pixels).permute(1, 2, 3, 0).contiguous()
    found["to_frames_without_pinned_memory"] = timed(lambda: levels.cpu(), args.runs, device)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
