"""A model that sees only the past makes a whole video as it makes a stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.sampling_plan import SamplingPlan
from sana_wm.engine.sidecar import frames_sha256
from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.models.config import StreamSettings
from tests.engine.test_streaming import streamed
from tests.engine.tiny import SETTINGS, picture, tiny_components

FEW = StreamSettings(timesteps=(1000.0, 500.0, 0.0), sampler="renoise")
CALL = {"image": picture(), "prompt": "a street", "fov": 70.0, "generator": 3}


def pipe_of(stream: StreamSettings | None) -> SanaWMPipeline:
    parts = tiny_components(replace(SETTINGS, stream=stream))
    return SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings)


@pytest.fixture(scope="module")
def pipe() -> SanaWMPipeline:
    return pipe_of(FEW)


@pytest.mark.parametrize("frames", [1, 17, 49, 57])
def test_a_video_of_any_length_has_the_frames_of_single_steps(pipe: SanaWMPipeline, frames: int) -> None:
    video = pipe(action="w-24,dw-24,ia-24", num_frames=frames, **CALL)
    world = World.begin(pipe, picture(), "a street", fov=70.0, seed=3)
    steps = np.concatenate([world.step(keys) for keys in ("w", "dw", "ia")])
    # Where the path ends inside a chunk, the camera stands still in what is cut: frames of that chunk may differ.
    whole = (frames - 1) // 24 * 24 + (frames > 1)
    assert video.frames.shape == (frames, *steps.shape[1:])
    assert len(video.c2w) == len(video.intrinsics) == frames
    assert np.array_equal(video.frames[:whole], steps[:whole])
    assert video.frames.std() > 0


def test_a_video_has_the_frames_of_the_growing_file(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    action = "w-24,dw-12,none-12"
    recording = streamed(pipe, tmp_path, action, plan=FEW)
    video = pipe(action=action, num_frames=49, **CALL)
    assert recording.chunk_hashes == [frames_sha256(video.frames[:25]), frames_sha256(video.frames[25:])]


def test_what_was_asked_for_changes_the_models_own_plan(pipe: SanaWMPipeline) -> None:
    def frames(**changes: float) -> bytes:
        return pipe(action="w-24", **CALL | changes).frames.tobytes()

    own = frames()
    assert own == frames()
    assert len({own, frames(num_inference_steps=3), frames(guidance_scale=2.0), frames(generator=4)}) == 4
    assert own == frames(generator=torch.Generator().manual_seed(3))
    with pytest.raises(InputError, match="flow_shift is 5"):
        frames(flow_shift=5.0)


def test_the_description_says_how_it_was_streamed(pipe: SanaWMPipeline) -> None:
    stages: list[str] = []
    video = pipe(action="w-24", **CALL, progress=lambda stage, done, total: stages.append(f"{stage} {done}/{total}"))
    assert video.settings["stream"]["timesteps"] == FEW.timesteps
    assert video.settings["seed"] == 3
    assert stages == ["encode 0/1", "encode 1/1", "stream 0/1", "stream 0/1", "stream 1/1"]
    assert video.timings.keys() >= {"encode", "denoise", "decode", "generate"}


def test_a_model_of_whole_clips_makes_them_whole() -> None:
    whole = pipe_of(None)
    assert isinstance(whole.plan(), SamplingPlan)
    assert "stream" not in whole(action="w-24", num_inference_steps=2, **CALL).settings
