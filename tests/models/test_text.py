"""The caption encoder: which tokens are shown to the transformer, and what attention makes of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from sana_wm.checkpoints.components import load_gemma
from sana_wm.errors import InputError
from sana_wm.models.text import GemmaTextEncoder
from tests.models.tiny_gemma import MAX_TOKENS, PREFIX, tiny_config, tiny_gemma, tiny_tokenizer

CPU = torch.device("cpu")
PROMPT = "red fox walks"


def encoder(model: Any = None, **options: Any) -> GemmaTextEncoder:
    options = {"prefix": PREFIX, "max_tokens": MAX_TOKENS} | options
    return GemmaTextEncoder(tiny_gemma() if model is None else model, tiny_tokenizer(), **options)


def plain_features(text: str, **changes: Any) -> torch.Tensor:
    """(tokens, channels) of `text` alone, without padding, from a model whose own config has no cap."""
    ids = tiny_tokenizer()(text, return_tensors="pt")["input_ids"]
    model = tiny_gemma(**{"attn_logit_softcapping": None} | changes)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state[0]


def test_shapes_and_attributes() -> None:
    text = encoder()
    features, mask = text.encode([PROMPT, "cat"])
    assert features.shape == (2, 1, MAX_TOKENS, 32)
    assert mask.shape == (2, MAX_TOKENS)
    assert mask.dtype == torch.int64
    assert (text.caption_channels, text.max_tokens) == (32, MAX_TOKENS)
    assert not features.requires_grad


def test_the_prefix_steers_the_encoder_and_is_cut_away() -> None:
    whole = plain_features(PREFIX + PROMPT)
    n_prefix = len(tiny_tokenizer()(PREFIX)["input_ids"])
    features, mask = encoder().encode([PROMPT])
    shown = torch.cat([whole[:1], whole[n_prefix - 1 :]])
    assert mask.tolist() == [[1] * len(shown) + [0] * (MAX_TOKENS - len(shown))]
    assert torch.allclose(features[0, 0, : len(shown)], shown, atol=1e-5)


def test_the_first_word_of_the_prompt_is_not_lost_in_the_prefix() -> None:
    tokenizer = tiny_tokenizer()
    alone, joined = tokenizer(PREFIX)["input_ids"], tokenizer(PREFIX + PROMPT)["input_ids"]
    # The trailing space of the prefix joins the first word: the position that both share is the prompt's.
    assert alone[:-1] == joined[: len(alone) - 1]
    assert alone[-1] != joined[len(alone) - 1]
    first, _ = encoder().encode(["cat"])
    other, _ = encoder().encode(["dog"])
    assert not torch.allclose(first[0, 0, 1], other[0, 0, 1])
    assert torch.allclose(first[0, 0, 0], other[0, 0, 0])


def test_a_prompt_is_the_same_alone_and_in_a_batch() -> None:
    text = encoder()
    (alone, mask), (batch, masks) = text.encode(["cat"]), text.encode([PROMPT, "cat"])
    assert torch.equal(mask[0], masks[1])
    assert torch.allclose(alone[0], batch[1], atol=1e-6)


def test_a_negative_prompt_is_read_without_the_prefix() -> None:
    features, mask = encoder().encode_negative([PROMPT])
    expected = plain_features(PROMPT)
    assert mask.sum() == len(expected)
    assert features.shape == (1, 1, MAX_TOKENS, 32)
    assert torch.allclose(features[0, 0, : len(expected)], expected, atol=1e-5)


def test_the_empty_negative_prompt_is_bos_and_padding() -> None:
    _, mask = encoder().encode_negative([""])
    assert mask.tolist() == [[1] + [0] * (MAX_TOKENS - 1)]


def test_without_a_prefix_both_ways_are_one() -> None:
    text = encoder(prefix="")
    for one, other in zip(text.encode([PROMPT]), text.encode_negative([PROMPT]), strict=True):
        assert torch.equal(one, other)


def test_attention_is_plain_softmax_unless_the_cap_is_asked_for() -> None:
    plain, capped = encoder(), encoder(attention_soft_cap=True)
    negative, mask = plain.encode_negative([PROMPT])
    kept = int(mask.sum())
    reference = plain_features(PROMPT)
    assert torch.allclose(negative[0, 0, :kept], reference, atol=1e-5)
    with_cap = capped.encode_negative([PROMPT])[0][0, 0, :kept]
    assert torch.allclose(with_cap, plain_features(PROMPT, attn_logit_softcapping=0.5), atol=1e-5)
    assert float((with_cap - reference).abs().max()) > 0.01


def test_plain_attention_is_torchs_own() -> None:
    """Against scaled_dot_product_attention, which is what the release's pinned library called."""
    model = tiny_gemma()
    text = encoder(model)
    seen: dict[str, torch.Tensor] = {}
    attention = model.layers[0].self_attn
    hooks = [
        getattr(attention, name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name in ("q_proj", "k_proj", "v_proj")
    ]
    hooks.append(attention.o_proj.register_forward_pre_hook(lambda _m, args: seen.update(mixed=args[0])))
    _, mask = text.encode_negative([PROMPT])
    for hook in hooks:
        hook.remove()
    from transformers.models.gemma2.modeling_gemma2 import apply_rotary_pos_emb

    q, k, v = (seen[name].unflatten(-1, (-1, 16)).transpose(1, 2) for name in ("q_proj", "k_proj", "v_proj"))
    cos, sin = model.rotary_emb(v, torch.arange(MAX_TOKENS)[None])
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    kept = int(mask.sum())
    assert torch.allclose(mixed.transpose(1, 2).flatten(2)[:, :kept], seen["mixed"][:, :kept], atol=1e-5)


def test_a_prompt_that_is_cut_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    text = encoder()
    with caplog.at_level(logging.WARNING, logger="sana_wm"):
        text.encode(["cat"])
        text.encode_negative([""])
        assert caplog.records == []
        features, mask = text.encode(["cat", "red fox " * 10])
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "prompt 1 is cut" in caplog.text
    assert mask[1].tolist() == [1] * MAX_TOKENS
    assert features.shape == (2, 1, MAX_TOKENS, 32)


def test_no_prompt_is_an_error() -> None:
    with pytest.raises(InputError, match="prompts is an empty list"):
        encoder().encode([])


def test_a_tokenizer_without_bos_is_refused() -> None:
    with pytest.raises(InputError, match="must start with BOS"):
        GemmaTextEncoder(tiny_gemma(), tiny_tokenizer(bos=False))


def test_features_that_overflow_are_refused() -> None:
    model = tiny_gemma()
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight.fill_(float("inf"))
    with pytest.raises(InputError, match="not finite"):
        encoder(model).encode([PROMPT])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As published: the language model with its head, and the tokenizer."""
    tiny_gemma("Gemma2ForCausalLM").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def load(folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> GemmaTextEncoder:
    options = {"prefix": PREFIX, "max_tokens": MAX_TOKENS} | options
    return load_gemma(folder, device=CPU, dtype=dtype, **options)


def test_the_published_folder_of_the_language_model_loads(folder: Path) -> None:
    features, mask = load(folder).encode([PROMPT])
    expected, expected_mask = encoder(tiny_gemma("Gemma2ForCausalLM").model).encode([PROMPT])
    assert torch.equal(mask, expected_mask)
    assert torch.allclose(features, expected, atol=1e-6)


def test_it_loads_in_bfloat16(folder: Path) -> None:
    features, _ = load(folder, torch.bfloat16).encode([PROMPT])
    exact, _ = load(folder).encode([PROMPT])
    assert features.dtype == torch.bfloat16
    assert torch.allclose(features.float(), exact, atol=0.1 * float(exact.abs().max()))


def test_another_model_is_refused(folder: Path) -> None:
    config = tiny_config().to_json_string().replace('"gemma2"', '"llama"')
    (folder / "config.json").write_text(config)
    with pytest.raises(InputError, match="type 'llama'; 'gemma2' was expected"):
        load(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"missing: 1 \(norm\.weight\)"):
        load(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="is a pickle"):
        load(folder)


def test_a_missing_tokenizer_is_told(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json or tokenizer\.model"):
        load(folder)
