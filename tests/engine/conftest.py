from __future__ import annotations

import pytest

from sana_wm.engine.pipeline import SanaWMPipeline
from tests.engine.tiny import tiny_components


@pytest.fixture(scope="session")
def pipe() -> SanaWMPipeline:
    parts = tiny_components()
    return SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings, name="tiny")
