"""A device that is too small ends a generation with a sentence that says what would fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sana_wm.engine.failure import GenerationError
from sana_wm.engine.memory import Need, frames_that_fit, out_of_memory
from sana_wm.engine.pipeline import SanaWMPipeline
from tests.engine.tiny import picture, tiny_components

MINUTE = Need(num_frames=961, width=2240, tokens=880, stride=8, element_size=2, batch=1)


def test_a_minute_of_the_largest_model_fits_where_it_was_measured_to() -> None:
    assert frames_that_fit(7_200_000_000, MINUTE) >= 961
    assert frames_that_fit(6_000_000_000, MINUTE) < 961
    assert frames_that_fit(7_200_000_000, replace(MINUTE, batch=2)) < 961
    assert frames_that_fit(1000, MINUTE) == 0
    assert frames_that_fit(3_000_000_000, MINUTE) % 8 == 1


def test_running_out_names_the_stage_and_the_length() -> None:
    parts = tiny_components()
    pipe = SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings)

    def full(module: Any, given: Any) -> None:
        raise torch.OutOfMemoryError("the device is full")

    parts.transformer.final_layer.register_forward_pre_hook(full)
    with pytest.raises(GenerationError, match="stage denoise: 17 frames do not fit into the memory of cpu"):
        pipe(image=picture(), prompt="a street", action="w-16")


@pytest.mark.gpu
def test_on_a_gpu_it_says_how_many_frames_would_fit() -> None:
    free, _ = torch.cuda.mem_get_info()
    need = replace(MINUTE, num_frames=10 * frames_that_fit(free, MINUTE))
    error = out_of_memory("denoise", torch.device("cuda"), need)
    assert "frames would." in str(error)
