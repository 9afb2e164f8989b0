"""Time and memory of a forward pass against the length of the clip, and of one more chunk against what came before."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.models.config import TransformerConfig
from sana_wm.models.init import init_transformer
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.ops.attention import softmax_attention
from sana_wm.ops.gated_delta import scan, write_terms

RUNS = 5
RUNS_ON_CPU = 3
"""Enough where nothing but the arithmetic takes time, and a pass takes minutes."""
CHUNK = 3
"""Latent frames of a chunk (spec 20)."""


def forward_cost(
    config: TransformerConfig, seconds: float, size: tuple[int, int], device: torch.device, fps: int = 16
) -> dict[str, Any]:
    """Milliseconds and peak GB of one forward pass with new weights over `seconds` of video.

    The time is the median of 5 passes, on a CPU of 3. size: height and width of the picture. The memory is what the
    pass adds to the weights; on a CPU it is None.
    """
    stride = config.temporal_stride
    latents = round(seconds * fps / stride) + 1
    frames, grid = stride * (latents - 1) + 1, (size[0] // 16, size[1] // 16)
    generator = torch.Generator().manual_seed(0)
    model = SanaWMTransformer(config)
    init_transformer(model, generator)
    model = model.to(device).eval()
    c2w = torch.eye(4).repeat(1, frames, 1, 1)
    c2w[0, :, 2, 3] = torch.arange(frames) * 0.03
    lens = torch.tensor([0.7 * size[1], 0.7 * size[1], size[1] / 2, size[0] / 2]).expand(1, frames, 4)
    cameras = (c2w.to(device), lens.to(device), size, grid, stride)
    x = torch.randn(1, config.in_channels, latents, *grid, generator=generator).to(device)
    y = torch.randn(1, 1, config.caption_tokens, config.caption_channels, generator=generator).to(device)
    timesteps = torch.full((1,), 500.0, device=device)
    cuda = device.type == "cuda"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=cuda):
        context = model.condition((latents, *grid), y, None, camera_conditions(*cameras), chunk_plucker(*cameras))
        before = torch.cuda.memory_allocated(device) if cuda else 0
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        milliseconds = _median_ms(lambda: model.denoise(x, timesteps, context), device)
        peak = (torch.cuda.max_memory_allocated(device) - before) / 1e9 if cuda else None
    return {"seconds": seconds, "latent_frames": latents, "ms": milliseconds, "peak_gb": peak}


def chunk_cost(
    config: TransformerConfig, chunks: int, size: tuple[int, int], device: torch.device
) -> dict[str, dict[str, float]]:
    """What the next chunk costs one block of either kind after `chunks` others: milliseconds and carried megabytes.

    The operations alone, in float32: the recurrence of the main branch from its carried state, against attention over
    all keys and values so far.
    """
    heads, width = config.num_heads, config.head_dim
    tokens = (size[0] // 16) * (size[1] // 16)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    q, k, v = (draw(1, heads, CHUNK, tokens, width) for _ in range(3))
    k = k.relu() * (width * tokens) ** -0.5
    beta, decay = torch.rand(1, heads, CHUNK, tokens, device=device), torch.full((1, heads, CHUNK), 0.9, device=device)
    state = draw(1, heads, width, width)

    def recurrence() -> torch.Tensor:
        erase, write = write_terms(k, v, beta)
        return q @ scan(erase, write, decay, state)

    past = (chunks + 1) * CHUNK * tokens
    query = q.permute(0, 2, 3, 1, 4).flatten(1, 2).contiguous()
    keys, values = draw(1, past, heads, width), draw(1, past, heads, width)
    with torch.inference_mode():
        gdn = {"ms": _median_ms(recurrence, device), "mb": state.nbytes / 1e6}
        attention = {
            "ms": _median_ms(lambda: softmax_attention(query, keys, values, scale=width**-0.5), device),
            "mb": (keys.nbytes + values.nbytes) / 1e6,
        }
    return {"gdn": gdn, "softmax": attention}


def _median_ms(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range((RUNS if device.type == "cuda" else RUNS_ON_CPU) + 1):  # the first warms up
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])
