"""Golden files of the chunk-causal and the streaming model: units, whole sequence, rollout with caches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm import sampling
from sana_wm.models.config import TransformerConfig
from sana_wm.models.feed_forward import FeedForward
from sana_wm.models.history import GdnMemory, History, SoftmaxMemory
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility
from sana_wm.ops.gated_delta import FinalStates, gated_delta_plain
from sana_wm.ops.norm import rms_norm
from sana_wm.ops.rotary import rotate_pairs
from sana_wm.ops.temporal_conv import chunked_short_conv, last_frames
from tests.parity_kinds.base import Check, Fixture, Kind, load_fixture
from tests.parity_kinds.dit import load, unit_context

WEIGHTS = "streaming_model_weights.safetensors"
PADDED_SCALE = 128**-0.5
FIRST_RELEASE = {"softmax_scale_cam": PADDED_SCALE}
"""What the streaming and the chunk-causal model of June have in common (spec 20, section 3.6)."""


# ---- units


def units(fixture: Fixture) -> Iterator[Check]:
    t = fixture.tensors
    yield from _convolutions(fixture)
    for case, past in (("no_state", False), ("with_state", True)):
        y, state, z = _main_scan(fixture, past)
        yield Check(f"out.gdn.{case}.y", y, t[f"out.gdn.{case}.y"], 2e-6)
        yield Check(f"out.gdn.{case}.S", state.mT, t[f"out.gdn.{case}.S"], 2e-6)
        yield Check(f"out.gdn.{case}.Z", z, t[f"out.gdn.{case}.Z"], 2e-6)
        y, state = _camera_scan(fixture, past)
        yield Check(f"out.cam.{case}.y", y, t[f"out.cam.{case}.y"], 5e-6)
        yield Check(f"out.cam.{case}.M", state, t[f"out.cam.{case}.M"], 5e-6)


def _convolutions(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    height, width, kernel = c["H"], c["W"], c["conv_kernel"]
    x = t["in.conv.x"].unflatten(1, (c["T"], height * width))
    sees = Visibility(tuple(t["in.chunk_starts"].tolist()), saved=len(t["in.chunk_starts"]))
    nothing = x.new_zeros(len(x), kernel - 1, *x.shape[2:])
    chunk = sees.chunk_of_frames(c["T"], x.device)
    y = chunked_short_conv(x, t["weights.conv.weight"], chunk, nothing)
    yield Check("out.conv.y", y.flatten(1, 2), t["out.conv.y"], 2e-6)
    tail = last_frames(x, nothing).transpose(1, 2).flatten(0, 1)  # (B*S, K-1, C)
    yield Check("out.conv.tail", tail, t["out.conv.tail"], 2e-6)
    weights = fixture.group("weights.ffn.")
    sizes = SimpleNamespace(width=c["channels"], mlp_hidden=weights["point_conv.conv.weight"].shape[1])
    mlp = FeedForward(sizes)  # type: ignore[arg-type]  # a whole configuration needs heads, which 6 channels do not make
    load(mlp, weights)
    y, tail = mlp.advance(x, replace(unit_context(c, None, c["head_dim"]), visibility=sees, chunk=chunk), None)
    assert tail is not None
    yield Check("out.ffn.y", y.flatten(1, 2), t["out.ffn.y"], 2e-6)
    yield Check("out.ffn.tail", tail.permute(0, 3, 1, 2), t["out.ffn.tail"], 2e-6)


def _main_scan(fixture: Fixture, past: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What tokens read (B,N,h,D), the state (B,h,D,D), keys by values, and z (B,h,D,1)."""
    c, t = fixture.config, fixture.tensors
    heads, width, tokens = c["heads"], c["head_dim"], c["H"] * c["W"]
    q, k, v = t["in.gdn.qkv"].flatten(3).unbind(2)
    q = F.relu(rms_norm(q, t["in.gdn.q_norm_weight"], c["norm_eps"]))
    k = F.relu(rms_norm(k, t["in.gdn.k_norm_weight"], c["norm_eps"])) * (width * tokens) ** -0.5
    q, k, v = (x.unflatten(-1, (heads, width)) for x in (q, k, v))
    angle = t["in.gdn.rope_angle"][:, None]
    turned = (rotate_pairs(x, angle.cos(), angle.sin()) for x in (q, k))
    q_rotated, k_rotated, q, k, v = (
        x.unflatten(1, (-1, tokens)).permute(0, 3, 1, 2, 4) for x in (*turned, q, k, v)
    )  # fmt: skip
    start = FinalStates(t["in.gdn.S_prev"].mT, t["in.gdn.Z_prev"]) if past else None
    out, end = gated_delta_plain(q_rotated, k_rotated, v, t["in.gdn.beta"], t["in.gdn.decay"], q=q, k=k, start=start)
    assert end.z is not None
    return out.permute(0, 2, 3, 1, 4).flatten(1, 2), end.state, end.z


def _camera_scan(fixture: Fixture, past: bool) -> tuple[Tensor, Tensor]:
    """What tokens read (B,h,D,N), and the state (B,h,D,D)."""
    c, t = fixture.config, fixture.tensors
    tokens = c["H"] * c["W"]
    q, k, v = (t[f"in.cam.{name}"].mT.unflatten(2, (-1, tokens)) for name in "qkv")
    start = FinalStates(t["in.cam.M_prev"], None) if past else None
    out, end = gated_delta_plain(q, k, v, t["in.gdn.beta"], t["in.gdn.decay"], start=start)
    return out.flatten(2, 3).mT, end.state


# ---- whole models


def model_of(fixture: Fixture, **options: Any) -> SanaWMTransformer:
    c = fixture.config
    config = TransformerConfig(
        depth=c["depth"],
        width=c["heads"] * c["head_dim"],
        num_heads=c["heads"],
        in_channels=c["in_channels"],
        caption_channels=c["caption_channels"],
        caption_tokens=c["text_len"],
        softmax_every_n=c["softmax_every_n"],
        mlp_ratio=c["mlp_ratio"],
        conv_kernel=c["conv_kernel_size"],
        temporal_stride=c["plucker_channels"] // 6,
        **options,
    )
    model = SanaWMTransformer(config)
    for block in model.blocks:  # released models have as many heads here as elsewhere; this small one has not
        block.cross_attn.num_heads = c["cross_heads"]
    weights = load_fixture(fixture.directory / WEIGHTS).group("weights.")
    load(model, weights)
    return model.eval()


def chunk_causal(fixture: Fixture) -> Iterator[Check]:
    t = fixture.tensors
    variants = {
        "fixed": model_of(fixture),
        "june_unmasked_softmax": model_of(fixture, masked_softmax=False),
        "june": model_of(fixture, masked_softmax=False, **FIRST_RELEASE),
    }
    for name in fixture.outputs():
        _, strategy, variant = name.split(".")
        given = {part: t[f"in.{strategy}.{part}"] for part in ("x", "timestep", "y", "mask", "camera", "plucker")}
        sees = Visibility(tuple(t[f"in.{strategy}.chunk_starts"].tolist()))
        out = variants[variant](*given.values(), visibility=sees)
        yield Check(name, out, t[name], 2e-5)


class Streamed:
    """A rollout of the small model, and what it gave in every call."""

    def __init__(self, fixture: Fixture, window: int, sink: bool, **options: Any) -> None:
        self.model, self.t = model_of(fixture, **options), fixture.tensors
        self.bounds = list(pairwise(self.t["in.ar_bounds"].tolist()))
        self.window, self.sink = window, sink
        self.history: History | None = None
        self.velocities: list[list[Tensor]] = []

    def velocity(self, latents: Tensor, timesteps: Tensor, saved: int = 0) -> Tensor:
        chunk = 0 if self.history is None else self.history.chunks
        first, end = self.bounds[chunk]
        sees = Visibility((0,), chunk, first, self.window, self.sink, saved)
        size = (end - first, *latents.shape[3:])
        cameras = self.t["in.camera"][:, first:end], self.t["in.plucker"][:, :, first:end]
        context = self.model.condition(size, self.t["in.y"], self.t["in.mask"], *cameras, sees)
        out, self.history = self.model.advance(latents, timesteps, context, self.history)
        self.velocities[-1].append(out)
        return out

    def remember(self, latents: Tensor) -> None:
        self.velocity(latents, torch.zeros(1, 1, latents.shape[2]), saved=1)

    def run(self) -> Tensor:
        noise, made = self.t["in.noise_with_clean_frame0"], []
        for first, end in self.bounds:
            self.velocities.append([])
            sigmas = sampling.list_sigmas([1000, 960, 889, 727, 0])
            clean = torch.arange(first, end) == 0
            made.append(sampling.next_chunk(self, noise[:, :, first:end], sigmas, clean_frames=clean))
        return torch.cat(made, 2)


def rollout(fixture: Fixture) -> Iterator[Check]:
    t = fixture.tensors
    june = {"camera_conv_left_context": False, "softmax_scale_main": PADDED_SCALE, **FIRST_RELEASE}
    for case, options in (("fixed.window2.sink1", {}), ("fixed.window-1.sink0", {}), ("june.window2.sink1", june)):
        _, window, sink = case.split(".")
        streamed = Streamed(fixture, int(window.removeprefix("window")), sink == "sink1", **options)
        latents = streamed.run()
        yield Check(f"out.{case}.latents", latents, t[f"out.{case}.latents"], 5e-5)
        for name in fixture.outputs():
            prefix = f"out.{case}.velocity.chunk"
            if name.startswith(prefix):
                chunk, call = name.removeprefix(prefix).removesuffix(".save").split(".call")
                yield Check(name, streamed.velocities[int(chunk)][int(call)], t[name], 2e-5)
        assert streamed.history is not None
        caches = {f"out.{case}.cache_after_last_chunk.{name}": x for name, x in slots(streamed.history)}
        for name, x in caches.items():
            if name in t:
                yield Check(name, x, t[name], 2e-5)


def slots(history: History) -> Iterator[tuple[str, Tensor]]:
    """What the release keeps in its numbered slots (spec 20, section 3.2)."""

    def tail(x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(0, 1)  # (B*S, K-1, C)

    for number, block in enumerate(history.blocks):
        memory = block.attention
        named: dict[int, Tensor | None] = {9: block.feed_forward_tail.permute(0, 3, 1, 2)}
        if isinstance(memory, GdnMemory):
            named |= {0: memory.state.mT, 1: memory.z, 2: memory.camera, 4: tail(memory.key_tail)}
            if memory.camera_key_tail is not None:
                named[3] = tail(memory.camera_key_tail)
        else:
            assert isinstance(memory, SoftmaxMemory)
            last = memory.chunks[history.chunks - 1]
            heads = (last.keys, last.values, last.camera_keys, last.camera_values)
            named |= {slot: None if x is None else x.transpose(1, 2) for slot, x in enumerate(heads)}
        for slot, x in named.items():
            if x is not None:
                yield f"block{number}.slot{slot}", x


KINDS = [
    Kind("streaming_units", lambda f: f.has("in.gdn.S_prev", "in.conv.x"), units),
    Kind("streaming_chunkcausal", lambda f: f.has("in.uniform.chunk_starts"), chunk_causal),
    Kind("streaming_rollout", lambda f: f.has("in.ar_bounds", "in.noise_with_clean_frame0"), rollout),
]
