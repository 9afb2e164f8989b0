"""Whole clips, chunk after chunk and few steps are compared on the same clips, and each is what it says it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sana_wm.checkpoints.components import Components
from sana_wm.engine.sampling_plan import SamplingPlan
from sana_wm.engine.stream_plan import plan_stream, plan_video
from sana_wm.errors import InputError
from sana_wm.evaluation.chunked import fewer_timesteps, generate_in_chunks
from sana_wm.evaluation.generate import generate
from sana_wm.evaluation.held_out import HeldOut, held_out
from sana_wm.evaluation.streaming_marks import chunk_modes, markdown, measure_modes, student_modes, whole_mode
from sana_wm.models.config import ChunkSettings, StreamSettings
from sana_wm.worlds.procedural import Renderer
from tests.engine.tiny import SETTINGS, tiny_components

CPU = torch.device("cpu")
CHUNKS = ChunkSettings(size=1, window=2, sink=True)
STREAM = StreamSettings(CHUNKS, timesteps=(1000, 750, 500, 250, 0), sampler="renoise")


@pytest.fixture(scope="module")
def clips() -> HeldOut:
    return held_out("test", {"procedural": 2}, 33, (32, 48), device=CPU, renderer=Renderer(samples=1))


@pytest.fixture(scope="module")
def student() -> Components:
    return tiny_components(replace(SETTINGS, stream=STREAM))


def made(student: Components, clips: HeldOut, stream: StreamSettings, batch: int = 2) -> torch.Tensor:
    return generate_in_chunks(student, clips, clips.captions, stream, batch=batch)


def test_one_chunk_is_a_clip_that_is_seen_whole(student: Components, clips: HeldOut) -> None:
    plan = SamplingPlan.of(student.settings)
    whole = generate(student, clips, clips.captions, plan, batch=2)
    timesteps = plan_stream(SETTINGS, SETTINGS.num_inference_steps).timesteps
    one = made(student, clips, StreamSettings(ChunkSettings(size=5), timesteps))
    assert (whole.int() - one.int()).abs().max() <= 1
    several = made(student, clips, StreamSettings(ChunkSettings(size=1), timesteps))
    assert torch.equal(several[:, 0], whole[:, 0])
    assert not torch.equal(several, whole)


def test_following_the_velocity_does_not_depend_on_the_batch(student: Components, clips: HeldOut) -> None:
    euler = replace(STREAM, sampler="euler")
    one, two = (made(student, clips, euler, batch) for batch in (1, 2))
    assert (one.int() - two.int()).abs().max() <= 1


def test_renoising_steps_are_others_and_come_out_the_same_again(student: Components, clips: HeldOut) -> None:
    first, again, euler = (made(student, clips, s) for s in (STREAM, STREAM, replace(STREAM, sampler="euler")))
    assert torch.equal(first, again)
    assert not torch.equal(first, euler)


def test_a_student_takes_every_so_many_of_its_steps() -> None:
    assert fewer_timesteps((1000, 900, 750, 500, 0), 4) == (1000, 900, 750, 500, 0)
    assert fewer_timesteps((1000, 900, 750, 500, 0), 2) == (1000, 750, 0)
    assert fewer_timesteps((1000, 900, 750, 500, 0), 1) == (1000, 0)
    with pytest.raises(InputError, match="steps is 3"):
        fewer_timesteps((1000, 900, 750, 500, 0), 3)


def test_modes_are_measured_on_the_same_clips(student: Components, tmp_path: Path) -> None:
    modes = [whole_mode("m", student), *chunk_modes("m", student, 2), *student_modes("m", student, (2, 1))]
    assert [mode.calls for mode in modes] == [2, 3, 3, 3, 3, 2]
    result = measure_modes(modes, {"m": student}, CPU, counts={"procedural": 2}, num_frames=33, batch=2, out=tmp_path)
    assert list(result["modes"]) == [mode.name for mode in modes]
    json.dumps(result)
    repeats = {m["aggregate"]["together"]["follow.1-16.repeat"]["mean"] for m in result["modes"].values()}
    assert len(repeats) == 1
    psnr = {m["aggregate"]["together"]["follow.17-48.generated"]["mean"] for m in result["modes"].values()}
    assert len(psnr) == len(modes)
    assert (tmp_path / "streaming.png").is_file()
    table = markdown(result).splitlines()
    assert len([line for line in table if line.startswith("| ")]) == 1 + len(modes) + 1
    assert all(mode.name in markdown(result) for mode in modes)


def test_models_that_do_not_stream_or_ask_for_guidance_are_refused(student: Components, clips: HeldOut) -> None:
    with pytest.raises(InputError, match="says nothing of chunks"):
        student_modes("m", tiny_components())
    with pytest.raises(InputError, match="guidance_scale is 3"):
        made(student, clips, replace(STREAM, guidance_scale=3.0))


def test_a_model_that_streams_makes_clips_as_it_works(student: Components, clips: HeldOut) -> None:
    done: list[int] = []
    plan = plan_video(student.settings)
    video = generate(student, clips, clips.captions, plan, batch=1, report=done.append)
    assert torch.equal(video, made(student, clips, STREAM, 1))
    assert done == [4, 8]
    assert isinstance(plan_video(SETTINGS), SamplingPlan)
