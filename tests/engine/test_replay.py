"""A recorded step gives the bits of the step itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.replay import LAUNCH_BOUND, Replayed, replayed_if_short
from tests.engine.tiny import picture, tiny_components


def _step(latents: Tensor, timesteps: Tensor) -> Tensor:
    return latents * timesteps


def test_only_short_steps_on_a_gpu_are_recorded() -> None:
    assert replayed_if_short(_step, torch.device("cpu"), 1) is _step
    assert replayed_if_short(_step, torch.device("cuda"), LAUNCH_BOUND + 1) is _step
    assert isinstance(replayed_if_short(_step, torch.device("cuda"), LAUNCH_BOUND), Replayed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_call_has_its_own_result() -> None:
    step = Replayed(_step)
    given = [(torch.full((3,), float(n), device="cuda"), torch.tensor(n + 1.0, device="cuda")) for n in range(4)]
    results = [step(*pair) for pair in given]
    for (latents, timesteps), result in zip(given, results, strict=True):
        torch.testing.assert_close(result, latents * timesteps, rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_video_of_recorded_steps_is_the_same_to_the_bit(guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tiny_components()
    for part in (parts.transformer, parts.codec, parts.text_encoder):
        part.cuda()
    pipe = SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings)

    def video() -> bytes:
        return pipe(picture(), "a hall", "w-16", num_inference_steps=4, guidance_scale=guidance).frames.tobytes()

    recorded = video()
    monkeypatch.setattr("sana_wm.engine.replay.LAUNCH_BOUND", 0)
    assert recorded == video()
