"""What is measured without weights runs as with them."""

from __future__ import annotations

import torch

from sana_wm.evaluation.stream_speed import random_ltx2
from tests.models.test_ltx2_vae import CPU, TINY


def test_a_codec_of_random_weights_decodes_chunk_after_chunk() -> None:
    codec = random_ltx2(TINY, CPU, torch.float32)
    tails: tuple[torch.Tensor, ...] = ()
    for frames in (4, 3):
        latents = torch.randn(1, 8, frames, 2, 2, generator=torch.Generator().manual_seed(frames))
        video, tails = codec.decode_next(latents, tails)
        assert video.isfinite().all()
        assert video.std() > 0
