"""The nano text encoder: bytes in, features out, padding without influence."""

from __future__ import annotations

import logging

import pytest
import torch

from sana_wm.models.config import NanoTextConfig
from sana_wm.models.nano_text import BEGIN, FIRST_BYTE, PAD, NanoTextEncoder

CONFIG = NanoTextConfig(channels=24, layers=2, heads=2, stride=4, max_tokens=6)  # 23 bytes
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def encoder() -> NanoTextEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NanoTextEncoder(CONFIG).eval()


def test_features_and_mask_have_the_shapes_that_the_transformer_takes(encoder: NanoTextEncoder) -> None:
    features, mask = encoder.encode(["a red cube", ""])
    assert features.shape == (2, 1, encoder.max_tokens, encoder.caption_channels)
    assert (mask.shape, mask.dtype) == ((2, 6), torch.int64)
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]  # the begin mark and the bytes, four to a token


def test_a_prompt_is_a_begin_mark_and_its_bytes(encoder: NanoTextEncoder) -> None:
    ids = encoder.tokenize(["Ab\0"])
    assert ids.shape == (1, 24)
    assert ids[0, :5].tolist() == [BEGIN, FIRST_BYTE + 65, FIRST_BYTE + 98, FIRST_BYTE, PAD]
    assert not ids[0, 4:].any()


def test_a_prompt_alone_gives_what_it_gives_beside_a_longer_one(encoder: NanoTextEncoder) -> None:
    together, mask = encoder.encode(["a cube", "a cube and a long wall"])
    alone, alone_mask = encoder.encode(["a cube"])
    assert torch.equal(mask[:1], alone_mask)
    torch.testing.assert_close(together[:1], alone, **CLOSE)


@torch.no_grad()
def test_padding_has_no_influence(encoder: NanoTextEncoder) -> None:
    """Neither what its embedding holds, nor how much of it there is."""
    features, mask = encoder.encode(["a cube"])
    kept = int(mask.sum())
    padding = encoder.bytes.weight[PAD].clone()
    encoder.bytes.weight[PAD] = 100.0
    torch.testing.assert_close(encoder.encode(["a cube"])[0][:, :, :kept], features[:, :, :kept], **CLOSE)
    encoder.bytes.weight[PAD] = padding

    longer = NanoTextEncoder(NanoTextConfig(channels=24, layers=2, heads=2, stride=4, max_tokens=9)).eval()
    state = encoder.state_dict()
    state["positions"] = torch.cat([state["positions"], torch.ones(3, 24)])
    longer.load_state_dict(state)
    torch.testing.assert_close(longer.encode(["a cube"])[0][:, :, :kept], features[:, :, :kept], **CLOSE)


def test_a_long_prompt_is_cut_with_a_warning(encoder: NanoTextEncoder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        features, mask = encoder.encode(["x" * 30])
    assert "prompt of 30 bytes is cut to the 23 this model reads" in caplog.text
    assert mask.all()
    assert torch.equal(features, encoder.encode(["x" * 23])[0])


def test_a_prompt_that_just_fits_is_kept_in_silence(encoder: NanoTextEncoder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ids = encoder.tokenize(["x" * 23])
    assert caplog.text == ""
    assert bool((ids != PAD).all())


def test_the_empty_prompt_has_features(encoder: NanoTextEncoder) -> None:
    features, mask = encoder.encode([""])
    assert features.isfinite().all()
    assert mask.sum() == 1
    for blank in ("  ", "\n\t"):
        assert torch.equal(encoder.encode([blank])[0], features)


@pytest.mark.parametrize("prompt", ["草原の家", "ein grünes Häuschen", "🏠🌳", "e" + "é" * 40, "\udcff is no text"])
def test_any_script_is_read(encoder: NanoTextEncoder, prompt: str) -> None:
    """Also when the cut falls into the middle of a character, and bytes of the command line that are no UTF-8."""
    features, _ = encoder.encode([prompt])
    assert features.isfinite().all()
    assert not torch.allclose(features, encoder.encode([prompt[1:]])[0], atol=1e-3)


def test_word_order_counts(encoder: NanoTextEncoder) -> None:
    first, second = encoder.encode(["red cube", "cube red"])[0]
    assert not torch.allclose(first, second, atol=1e-3)


def test_a_negative_prompt_is_a_prompt(encoder: NanoTextEncoder) -> None:
    for a, b in zip(encoder.encode_negative(["blurry"]), encoder.encode(["blurry"]), strict=True):
        assert torch.equal(a, b)


def test_training_reaches_every_weight(encoder: NanoTextEncoder) -> None:
    features, mask = encoder(encoder.tokenize(["x" * 23]))
    (features * mask[:, None, :, None]).pow(3).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []
    encoder.zero_grad()
