from __future__ import annotations

import pytest
import torch

from sana_wm.engine.pipeline import SanaWMPipeline
from tests.engine.tiny import tiny_components

torch.set_num_threads(1)  # tensors this small only lose by being shared out


@pytest.fixture(scope="session")
def pipe() -> SanaWMPipeline:
    parts = tiny_components()
    return SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings, name="tiny")
