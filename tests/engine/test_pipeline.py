"""The way through: same input, same frames; every condition reaches them; nonsense stops with the stage's name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sana_wm.engine.failure import GenerationError
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.sidecar import frames_sha256
from sana_wm.engine.video import WorldVideo
from sana_wm.errors import InputError
from sana_wm.geometry.actions import rollout
from tests.engine.tiny import SETTINGS, picture, tiny_components


def make(pipe: SanaWMPipeline, **changes: Any) -> WorldVideo:
    return pipe(**{"image": picture(), "prompt": "a street", "action": "w-8,dw-8", "fov": 70.0} | changes)


def digest(pipe: SanaWMPipeline, **changes: Any) -> str:
    return frames_sha256(make(pipe, **changes).frames)


def own_pipe(**settings: Any) -> SanaWMPipeline:
    parts = tiny_components(replace(SETTINGS, **settings))
    return SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings)


def test_a_video_has_the_shape_and_the_cameras_it_was_asked_for(pipe: SanaWMPipeline) -> None:
    video = make(pipe)
    assert video.frames.shape == (17, 32, 48, 3)
    assert video.frames.dtype == np.uint8
    assert torch.equal(video.c2w, rollout("w-8,dw-8"))
    assert video.intrinsics.shape == (17, 4)
    assert video.fps == 16


def test_the_same_seed_gives_the_same_frames_and_another_seed_does_not(pipe: SanaWMPipeline) -> None:
    first = digest(pipe, generator=1)
    assert digest(pipe, generator=1) == first
    assert digest(pipe, generator=torch.Generator().manual_seed(1)) == first
    assert digest(pipe, generator=2) != first


def test_global_random_numbers_are_neither_used_nor_consumed(pipe: SanaWMPipeline) -> None:
    first = digest(pipe)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert digest(pipe) == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a forest"},
        {"action": "w-8,aw-8"},
        {"translation_speed": 0.1},
        {"fov": 90.0},
        {"num_inference_steps": 3},
        {"flow_shift": 8.0},
        {"guidance_scale": 4.0},
        {"image": np.asarray(picture())[:, ::-1].copy()},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_condition_reaches_the_frames(pipe: SanaWMPipeline, changes: dict[str, Any]) -> None:
    assert digest(pipe, **changes) != digest(pipe)


def test_the_negative_prompt_matters_with_guidance_only(pipe: SanaWMPipeline) -> None:
    assert digest(pipe, negative_prompt="fog") == digest(pipe)
    guided = digest(pipe, guidance_scale=4.0)
    assert digest(pipe, guidance_scale=4.0, negative_prompt="fog") != guided


def test_guidance_towards_the_prompt_itself_changes_nothing(pipe: SanaWMPipeline) -> None:
    # with equal texts both halves of the batch agree, which they can only do if both see the camera
    plain = make(pipe).frames.astype(int)
    guided = make(pipe, guidance_scale=4.0, negative_prompt="a street").frames.astype(int)
    assert np.abs(plain - guided).max() <= 1


def test_guidance_leads_towards_the_prompt_not_the_negative(pipe: SanaWMPipeline) -> None:
    # barely above 1, guidance is the prompt alone, whatever the negative
    plain, other = (make(pipe, prompt=prompt).frames.astype(int) for prompt in ("a street", "a forest"))
    barely = make(pipe, guidance_scale=1.0001, negative_prompt="a forest").frames.astype(int)
    assert np.abs(barely - plain).max() <= 1 < np.abs(barely - other).max()


def test_poses_and_the_action_they_come_from_give_the_same_frames(pipe: SanaWMPipeline) -> None:
    assert digest(pipe, action=None, c2w=rollout("w-8,dw-8").numpy()) == digest(pipe)


def test_the_first_frame_is_the_codecs_picture_of_the_image(pipe: SanaWMPipeline) -> None:
    one = make(pipe, num_frames=1)
    assert one.frames.shape == (1, 32, 48, 3)
    assert np.array_equal(make(pipe).frames[0], one.frames[0])
    assert np.array_equal(make(pipe, generator=7).frames[0], one.frames[0])


def test_both_samplers_run() -> None:
    assert digest(own_pipe(sampler="flow_dpm-solver")) != digest(own_pipe())


def test_progress_counts_every_stage_to_its_end(pipe: SanaWMPipeline) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    make(pipe, progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)))
    assert list(seen) == ["encode", "denoise", "decode"]
    for calls in seen.values():
        assert calls[0][0] == 0
        assert calls[-1][0] == calls[-1][1]
        assert calls == sorted(calls)


def test_an_interruption_from_the_progress_callback_gets_out(pipe: SanaWMPipeline) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "denoise" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(pipe, progress=interrupt)
    assert make(pipe).frames.shape[0] == 17  # and the pipeline still works


@pytest.mark.parametrize("stage", ["encode", "denoise", "decode"])
def test_numbers_that_are_not_finite_stop_with_the_name_of_the_stage(stage: str) -> None:
    pipe = own_pipe()
    part = {"encode": pipe.codec.encoder, "denoise": pipe.transformer.final_layer, "decode": pipe.codec.decoder}[stage]
    next(part.parameters()).data.fill_(float("nan"))
    with pytest.raises(GenerationError, match=f"stage {stage}"):
        make(pipe)


def test_a_video_of_one_colour_is_refused() -> None:
    pipe = own_pipe()
    with torch.no_grad():
        for parameter in pipe.codec.decoder.conv_out.parameters():
            parameter.zero_()
    with pytest.raises(GenerationError, match="one colour"):
        make(pipe)
    flat = np.full((32, 48, 3), 128, np.uint8)
    assert make(pipe, image=flat).frames.std() == 0  # a flat picture may stay flat


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"num_inference_steps": 100_000}, "at most 1000"),
        ({"guidance_scale": -1.0}, "guidance_scale is -1"),
        ({"flow_shift": float("nan")}, "flow_shift is nan"),
        ({"generator": -1}, "seed is -1"),
        ({"num_frames": 0}, "num_frames is 0"),
    ],
)
def test_numbers_no_sampler_can_use_are_refused(pipe: SanaWMPipeline, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make(pipe, **changes)


def test_a_picture_size_the_codec_cannot_make_is_refused() -> None:
    with pytest.raises(InputError, match="40x32"):
        own_pipe(width=40)


@pytest.mark.parametrize("device", ["abacus", "mps", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(InputError, match=device):
        SanaWMPipeline.from_pretrained("nano", device=device)
