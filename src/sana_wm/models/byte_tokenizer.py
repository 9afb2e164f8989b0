"""A tokenizer of our own for Gemma models without trained weights: one token for every UTF-8 byte."""

from __future__ import annotations

from typing import Any

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
"""With the ids 0 to 3 that Gemma gives them."""

VOCABULARY = len(SPECIAL) + 256


def byte_tokenizer() -> Any:
    """A `PreTrainedTokenizerFast` that puts BOS in front; any text can be written with it, and it holds no words.

    It is the byte fallback that Gemma's tokenizer has, without the pieces of words learned from text.
    """
    from tokenizers import Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    names = (*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)))
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    bos = vocabulary["<bos>"]
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
