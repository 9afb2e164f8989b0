"""From an image to frames with the parts of the published model: hybrid transformer, LTX-2 codec, Gemma-2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sana_wm import SanaWMPipeline
from tests.checkpoints.test_load_published import write_published_model

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_published_model(tmp_path / "model")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_published_model_makes_a_video_with_guidance(folder: Path, dtype: torch.dtype) -> None:
    pipe = SanaWMPipeline.from_pretrained(folder, device="cpu", dtype=dtype)
    video = pipe(IMAGE, "a red fox", action="w-8", num_inference_steps=2, guidance_scale=3.0, fov=60, generator=1)
    assert video.frames.shape == (9, 64, 64, 3)
    assert video.settings["guidance_scale"] == 3.0
    assert video.settings["flow_shift"] == 9.8
    assert video.frames.std() > 0


def test_prompt_guidance_and_camera_all_reach_a_published_model(folder: Path) -> None:
    pipe = SanaWMPipeline.from_pretrained(folder, device="cpu")

    def frames(prompt: str = "a red fox", action: str = "w-8", guidance_scale: float = 3.0) -> np.ndarray:
        video = pipe(
            IMAGE, prompt, action=action, num_inference_steps=2, guidance_scale=guidance_scale, fov=60, generator=1
        )
        return video.frames

    base = frames()
    assert np.array_equal(base, frames())
    assert not np.array_equal(base, frames(prompt="one cat and one dog"))
    assert not np.array_equal(base, frames(guidance_scale=1.0))
    assert not np.array_equal(base, frames(action="a-8"))
