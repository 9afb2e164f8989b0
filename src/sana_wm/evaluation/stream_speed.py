"""How long the stages of a chunk take, and how large a world is that streams (docs/streaming.md)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sana_wm.checkpoints.components import Codec
from sana_wm.checkpoints.load import load_components
from sana_wm.checkpoints.random_presets import LTX2_VAE
from sana_wm.engine.chunk_stages import ChunkStages, Move
from sana_wm.engine.stream_plan import plan_stream
from sana_wm.engine.streaming import Lanes, side_by_side
from sana_wm.engine.world_state import WorldState
from sana_wm.errors import InputError
from sana_wm.evaluation.speed import CAPTION_TOKENS, WARM_UPS, header, random_model
from sana_wm.geometry.actions import CameraMotion
from sana_wm.models.config import PIPELINES, TRANSFORMERS, StreamSettings
from sana_wm.models.history import GdnMemory
from sana_wm.models.ltx2_tiling import Tiling
from sana_wm.models.ltx2_vae import Ltx2Codec, build_ltx2_vae


def bench_stream(
    preset: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    chunks: int = 6,
    steps: int | None = None,
    overlap: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Seconds of the stages of every chunk, one after another, and the bytes of the state after it, by part.

    Frames are there after denoising and decoding; remembering comes after them. `cpu_seconds` are those of all stages
    on all cores, which other work on the machine disturbs less. With `overlap` also what :func:`measure_overlap` finds,
    in a second world of as many chunks.

    `report` gets each chunk. The weights of the transformer are random, and so are those of the 2.6B model's decoder,
    which decodes causally, as that of the streaming release.

    Raises:
        InputError: there is no such preset, or fewer chunks than warm up and one more; with `overlap` more warm up.
    """
    if preset not in TRANSFORMERS:
        raise InputError(f"preset is {preset!r}; it must be one of {', '.join(TRANSFORMERS)}.")
    if chunks <= WARM_UPS:
        raise InputError(f"chunks is {chunks}; it must be at least {WARM_UPS + 1}, because the first ones warm up.")
    settings = PIPELINES[preset]
    plan = plan_stream(settings, steps)
    if overlap and chunks <= overlap_warm_ups(plan):
        warm_ups = overlap_warm_ups(plan)
        raise InputError(f"chunks is {chunks}; it must be at least {warm_ups + 1}: side by side {warm_ups} warm up.")
    codec = load_components("nano", device=device).codec if preset == "nano" else random_ltx2(LTX2_VAE, device, dtype)
    transformer = random_model(TRANSFORMERS[preset], device, dtype)
    stages = ChunkStages(transformer, codec, (settings.height, settings.width), plan)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found = measure_stream(stages, chunks, report)
    return {
        **header("stream speed", 1, preset, dtype, chunks - WARM_UPS, device),
        "steps": len(plan.timesteps) - 1,
        "seconds_of_video": stages.frames_a_chunk / settings.fps,
        "peak_gb": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
        "chunks": found,
        # After the chunks one by one, which have compiled and recorded what there is.
        "overlap": measure_overlap(stages, chunks, settings.fps) if overlap else None,
    }


@torch.inference_mode()
def measure_stream(
    stages: ChunkStages, chunks: int, report: Callable[[dict[str, Any]], None] | None = None
) -> list[dict[str, Any]]:
    """The chunks of a world that begins with noise, one after another: seconds of each stage, and bytes after it."""
    state, found, device = _begin(stages), [], stages.device
    for chunk in range(chunks):
        move, begin = _walk(state, stages.frames_a_chunk), time.process_time()
        (latents, after), denoise = _clocked(lambda: stages.denoise(state, move), device)  # noqa: B023 (called at once)
        (_, state), decode = _clocked(lambda: stages.decode(latents, after, state.tails), device)  # noqa: B023
        state, remember = _clocked(lambda: stages.remember(state), device)  # noqa: B023 (called at once)
        one = {
            "chunk": chunk,
            "denoise_seconds": denoise,
            "decode_seconds": decode,
            "remember_seconds": remember,
            "cpu_seconds": time.process_time() - begin,
            "state_bytes": _bytes(state),
        }
        found.append(one)
        if report is not None:
            report(one)
    return found


def overlap_warm_ups(plan: StreamSettings) -> int:
    """Chunks of a stream before those that :func:`measure_overlap` counts: the window fills, and the stages with it."""
    return max(WARM_UPS, plan.chunks.window + 1)


def measure_overlap(stages: ChunkStages, chunks: int, fps: float) -> dict[str, Any]:
    """How fast chunks follow each other when their stages run side by side, as in a stream into a file.

    While a chunk is decoded, the next one is denoised, on a GPU in streams of their own; nothing is written. Seconds
    are those from one finished chunk to the next, after the first few; p50 and p99 of them, and frames a second in all.
    `busy_seconds` are those of each stage from its begin to its end on average of all chunks, in which it may wait for
    the others.
    """

    def move(state: WorldState) -> Move:
        return _walk(state, stages.frames_a_chunk)

    lanes, finished = Lanes(stages.device), []
    made = side_by_side(stages, _begin(stages), chunks, move, lambda frames, state: None, lanes)
    with closing(made):
        for _ in made:
            finished.append(time.perf_counter())
    finished = finished[overlap_warm_ups(stages.plan) - 1 :]
    seconds = np.diff(finished)
    frames_per_second = stages.frames_a_chunk * len(seconds) / (finished[-1] - finished[0])
    return {
        "chunks": len(seconds),
        "p50_seconds": float(np.percentile(seconds, 50)),
        "p99_seconds": float(np.percentile(seconds, 99)),
        "seconds": seconds.tolist(),
        "busy_seconds": {name: spent / chunks for name, spent in lanes.seconds.items()},
        "frames_per_second": frames_per_second,
        "times_real_time": frames_per_second / fps,
    }


def random_ltx2(config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Codec:
    """A codec of random weights, drawn in place, whose decoder is causal."""
    with torch.device("meta"):
        vae = build_ltx2_vae(config | {"decoder_causal": True})
    vae = vae.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in vae.parameters():
        parameter.normal_(0, max(1, parameter[0].numel()) ** -0.5, generator=generator)
    vae.latents_mean.zero_()
    vae.latents_std.fill_(1)
    return Ltx2Codec(vae, Tiling()).eval()


def _begin(stages: ChunkStages) -> WorldState:
    """A world of noise: what a picture and a caption would be is drawn."""
    config, device = stages.transformer.config, stages.device
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(device)

    height, width = stages.picture_hw
    tokens = config.caption_tokens
    features = draw(1, 1, tokens, config.caption_channels).to(stages.transformer.dtype)
    stride = stages.codec.spatial_stride
    return WorldState(
        seed=0,
        chunk=0,
        flat=False,
        motion=CameraMotion(),
        intrinsics=torch.tensor([0.7 * width, 0.7 * width, width / 2, height / 2]),
        features=features,
        mask=(torch.arange(tokens, device=device) < CAPTION_TOKENS).float()[None],
        first=draw(1, stages.codec.latent_channels, 1, height // stride, width // stride),
    )


def _walk(state: WorldState, count: int) -> Move:
    motion = state.motion.copy()
    c2w = torch.stack([motion.step("wd") for _ in range(count)])
    return Move(c2w, state.intrinsics.expand(count, 4), motion)


def _clocked(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    begin = time.perf_counter()
    made = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return made, time.perf_counter() - begin


def _bytes(state: WorldState) -> dict[str, int]:
    """What the state holds, by what it is for."""
    found = {"gdn_states": 0, "gdn_tails": 0, "softmax_keys": 0, "feed_forward_tails": 0}
    for block in () if state.history is None else state.history.blocks:
        found["feed_forward_tails"] += block.feed_forward_tail.nbytes
        memory = block.attention
        if isinstance(memory, GdnMemory):
            parts = {"gdn_states": (memory.state, memory.z, memory.camera)}
            parts["gdn_tails"] = (memory.key_tail, memory.camera_key_tail)  # type: ignore[assignment]
        else:
            parts = {"softmax_keys": tuple(x for keys in memory.chunks.values() for x in vars(keys).values())}
        for name, tensors in parts.items():
            found[name] += sum(x.nbytes for x in tensors if x is not None)
    found["decoder_tails"] = sum(x.nbytes for x in state.tails)
    found["caption"] = state.features.nbytes + state.mask.nbytes
    return found | {"all": state.nbytes}
