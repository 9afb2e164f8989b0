"""Named models: what is published, what fits together, what no model can be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sana_wm.errors import InputError
from sana_wm.models.config import (
    PIPELINES,
    TRANSFORMERS,
    NanoAutoencoderConfig,
    NanoTextConfig,
    TransformerConfig,
)


def test_the_full_size_is_the_published_one() -> None:
    config = TRANSFORMERS["2.6b"]
    assert (config.depth, config.width, config.num_heads, config.head_dim) == (20, 2240, 20, 112)
    assert (config.mlp_hidden, config.plucker_channels) == (6720, 48)
    assert [i for i in range(20) if config.is_softmax(i)] == [3, 7, 11, 15, 19]
    assert config.softmax_scale_main is None
    assert config.softmax_scale_cam == pytest.approx(1 / 128**0.5)
    assert config.truncate_timesteps


def test_the_nano_parts_fit_each_other() -> None:
    config = TRANSFORMERS["nano"]
    assert config.in_channels == NanoAutoencoderConfig().latent_channels
    assert (config.caption_channels, config.caption_tokens) == (NanoTextConfig().channels, NanoTextConfig().max_tokens)
    assert not config.truncate_timesteps


@pytest.mark.parametrize(("name", "stride"), [("2.6b", 32), ("nano", 16)])
def test_a_preset_makes_videos_that_its_codec_can_code(name: str, stride: int) -> None:
    settings = PIPELINES[name]
    assert settings.height % stride == settings.width % stride == 0
    assert settings.num_frames % 8 == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"depth": 0}, "transformer.depth is 0; it must be at least 1"),
        ({"conv_kernel": 0}, "transformer.conv_kernel is 0"),
        ({"width": 30, "num_heads": 4}, "transformer.width 30 must be a multiple of num_heads 4"),
        ({"width": 24, "num_heads": 2}, "width / num_heads is 12; it must be a multiple of 8"),
        ({"camera_math_dtype": "float16"}, "'float16'; it must be 'float32' or 'bfloat16'"),
    ],
)
def test_an_impossible_size_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        replace(TransformerConfig(), **changes)  # type: ignore[arg-type]
