"""A world's chunks are those of the chunk-causal pass over the whole video, with the cameras of the whole path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from sana_wm.engine.chunk_stages import chunk_generator
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.rollout import Rollout
from sana_wm.engine.world import World
from sana_wm.geometry.actions import rollout
from sana_wm.geometry.conditions import camera_conditions, chunk_plucker
from sana_wm.models.chunked import ChunkedModel
from sana_wm.models.config import Leash, StreamSettings
from sana_wm.models.visibility import Visibility
from tests.engine.test_world import FAST
from tests.engine.tiny import picture

MOVES = ["w", "dw", "ia", "s"]
STARTS, FRAMES = (0, 4, 7, 10), 13


@dataclass
class Walk:
    """What a walk asked of the model and got, what came out of its chunks, and the input of a pass over all of it."""

    calls: list[tuple[torch.Tensor, ...]]
    latents: torch.Tensor
    first: torch.Tensor | None
    given: tuple[torch.Tensor, ...]


def walked(pipe: SanaWMPipeline, monkeypatch: pytest.MonkeyPatch, plan: StreamSettings, **changes: Any) -> Walk:
    calls: list[tuple[torch.Tensor, ...]] = []
    finished: list[torch.Tensor] = []
    velocity, remember = Rollout.velocity, Rollout.remember

    def seen(self: Rollout, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        made = velocity(self, latents, timesteps)
        calls.append((latents, timesteps, made))
        return made

    def kept(self: Rollout, latents: torch.Tensor) -> None:
        finished.append(latents)
        remember(self, latents)

    monkeypatch.setattr(Rollout, "velocity", seen)
    monkeypatch.setattr(Rollout, "remember", kept)
    world = World.begin(pipe, picture(), "a street", fov=70.0, plan=plan, **changes)
    state = world.state
    for keys in MOVES:
        world.step(keys)

    c2w = rollout(",".join(f"{keys}-24" for keys in MOVES), **changes)
    cameras = (c2w, state.intrinsics.expand(len(c2w), 4), (32, 48), (2, 3))
    given = (state.features, state.mask, camera_conditions(*cameras)[None], chunk_plucker(*cameras)[None])
    return Walk(calls, torch.cat(finished, dim=2), state.first, given)


@torch.inference_mode()
def test_chunks_are_those_of_the_pass_over_the_whole_video(
    pipe: SanaWMPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = walked(pipe, monkeypatch, FAST)
    latents = walk.latents
    assert latents.shape[2] == FRAMES
    for chunk, (first, end) in enumerate(zip(STARTS, (*STARTS[1:], FRAMES), strict=True)):
        for noisy, timesteps, made in walk.calls[2 * chunk : 2 * chunk + 2]:
            whole, times = latents.clone(), torch.zeros(1, 1, FRAMES)
            whole[:, :, first:end], times[..., first:end] = noisy, timesteps
            sees = Visibility(STARTS, window=FAST.chunks.window, sink=FAST.chunks.sink)
            expected = pipe.transformer(whole, times, *walk.given, visibility=sees)[:, :, first:end]
            assert torch.allclose(made, expected, atol=1e-4)
    assert walk.first is not None
    assert torch.equal(latents[:, :, :1], walk.first)  # the picture stays what it is


@torch.inference_mode()
@pytest.mark.parametrize("leash", [None, Leash(distance=1.5, frames=7)])
def test_clips_whose_cameras_are_known_are_made_as_a_world_is(
    pipe: SanaWMPipeline, monkeypatch: pytest.MonkeyPatch, leash: Leash | None
) -> None:
    walk = walked(pipe, monkeypatch, replace(FAST, leash=leash), translation_speed=0.1)
    features, mask, *cameras = walk.given
    size = (FRAMES, *walk.latents.shape[3:])
    model = ChunkedModel(pipe.transformer, FAST.chunks, size, features, mask, (cameras[0], cameras[1]), leash=leash)
    for chunk, (first, end) in enumerate(model.bounds):
        for noisy, timesteps, made in walk.calls[2 * chunk : 2 * chunk + 2]:
            assert torch.allclose(made, model.velocity(noisy, timesteps), atol=1e-4)
        model.remember(walk.latents[:, :, first:end])


def test_the_noise_of_chunks_and_seeds_differs() -> None:
    drawn = {float(torch.rand(1, generator=chunk_generator(seed, chunk))) for seed in range(5) for chunk in range(5)}
    assert len(drawn) == 25


def test_a_chunk_may_have_another_length(pipe: SanaWMPipeline) -> None:
    plan = replace(FAST, chunks=replace(FAST.chunks, size=1))
    world = World.begin(pipe, picture(), "a street", fov=70.0, plan=plan)
    assert [len(world.step("w")) for _ in range(3)] == [9, 8, 8]
