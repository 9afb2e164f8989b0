"""The streaming LTX-2 decoder by its kernel makes the video that it makes by the library's operations."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.evaluation.stream_speed import random_ltx2
from sana_wm.models import ltx2_stream
from sana_wm.models.ltx2_stream import check_streams, decode_chunk
from sana_wm.ops import causal_pad
from sana_wm.ops.dispatch import plain_only
from tests.interpreted import needs_triton, run_interpreted
from tests.models.test_ltx2_vae import TINY

WIDER = TINY | {"latent_channels": 16, "decoder_block_out_channels": [48, 96, 192]}
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))
"""On a CPU there is no kernel, but what a GPU is to run runs."""


def _latents(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _decoder(config: dict[str, Any], device: str) -> Any:
    return random_ltx2(config, torch.device(device), torch.float32).vae.decoder


def _decoded(decoder: Any, z: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The video of latents in chunks, and what is remembered after it."""
    tails: tuple[Tensor, ...] = ()
    made = []
    for chunk in z.split(sizes, dim=2):
        frames, tails = decode_chunk(decoder, chunk, tails)
        made.append(frames)
    return torch.cat(made, 2), tails


def _main() -> None:
    """What the subprocess does: decode with the kernel interpreted, print how far that is from decoding without."""
    torch.set_num_threads(1)
    decoder, z = _decoder(TINY, "cpu"), _latents(2, 8, 3, 2, 3)
    with torch.no_grad():
        plain, tails = _decoded(decoder, z, (3,))
        _, before = _decoded(decoder, z[:, :, :2], (2,))
        for module in (causal_pad, ltx2_stream):
            module.inference_kernels_take = lambda x: True  # type: ignore[attr-defined]  # on a CPU too
        fused, after = _decoded(decoder, z, (2, 1))
        gone_on, _ = decode_chunk(decoder, z[:, :, 2:], before)
    found = {
        "video": float((fused - plain).abs().max()),
        "tails": max(float((a - b).abs().max()) for a, b in zip(tails, after, strict=True)),
        "with tails of the plain decoder": float((gone_on - plain[:, :, -8:]).abs().max()),
    }
    owned = all(t.is_contiguous() and t.untyped_storage().nbytes() == t.nbytes for t in after)
    print(
        json.dumps({name: far for name, far in found.items() if not far < 1e-5} | ({} if owned else {"owned": False}))
    )


@needs_triton
def test_decoding_with_the_interpreted_kernel_is_decoding_without_it() -> None:
    assert run_interpreted(__file__) == {}


def test_a_decoder_that_pads_with_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="convolutions padded with zeros"):
        check_streams(_decoder(TINY | {"decoder_spatial_padding_mode": "zeros"}, "cpu"))


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_chunks_are_decoded_as_the_plain_decoder_decodes_the_whole(device: str) -> None:
    decoder, z = _decoder(WIDER, device), _latents(2, 16, 5, 3, 5).to(device)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        with plain_only():
            whole, expected = _decoded(decoder, z, (5,))
        video, tails = _decoded(decoder, z, (1, 3, 1))
    assert video.shape == whole.shape
    for made, other in ((video, whole), *zip(tails, expected, strict=True)):
        assert float((made - other).abs().max() / other.std()) < 1e-3
    for tail in tails:
        assert tail.is_contiguous()
        assert tail.untyped_storage().nbytes() == tail.nbytes


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_bfloat16_is_no_further_from_float32_than_in_the_plain_decoder(device: str) -> None:
    decoder, z = _decoder(WIDER, device), _latents(1, 16, 5, 4, 6).to(device).bfloat16()
    decoder.bfloat16()
    with plain_only():
        plain, _ = _decoded(decoder, z, (2, 3))
    fused, _ = _decoded(decoder, z, (2, 3))
    with plain_only(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        exact, _ = _decoded(decoder.float(), z.float(), (2, 3))

    def far(video: Tensor) -> float:
        return float((video.float() - exact).square().mean().sqrt() / exact.std())

    assert far(fused) < 1e-2  # with the 2.6B model's decoder 4.9e-3
    assert far(fused) < 1.1 * far(plain)


if __name__ == "__main__":
    _main()
