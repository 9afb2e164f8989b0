"""The tokenizer for Gemma models without trained weights."""

from __future__ import annotations

import pytest

from sana_wm.models.byte_tokenizer import VOCABULARY, byte_tokenizer


@pytest.mark.parametrize("text", ["", "a quiet street", "First line:\n\nUser Prompt: ", "é 狐 \N{FOX FACE}"])
def test_any_text_is_bos_and_its_bytes_and_comes_back(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer(text)["input_ids"]
    assert ids == [tokenizer.bos_token_id, *(4 + byte for byte in text.encode())]
    assert max(ids) < VOCABULARY == len(tokenizer)
    assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
