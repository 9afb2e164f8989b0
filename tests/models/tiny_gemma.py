"""A Gemma-2 of the real class and a tokenizer of the real kind, small enough to make in a test."""

from __future__ import annotations

from typing import Any

import torch

PREFIX = "Describe the scene in detail.\nKeep every word.\nUser Prompt: "
CORPUS = [PREFIX, "a red fox walks over the snow", "the camera stands still; grass moves", "one cat and one dog"] * 2
MAX_TOKENS = 12
SOFT_CAP = 0.5
"""Far below Gemma's 50, so that it matters for the small logits of random weights."""


def tiny_tokenizer(*, bos: bool = True) -> Any:
    """BPE over metaspace pieces, as Gemma's: a trailing space joins the word that follows it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )


def tiny_config(**changes: Any) -> Any:
    from transformers import Gemma2Config

    values = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": SOFT_CAP,
    }
    return Gemma2Config(**values | changes)


def tiny_gemma(kind: str = "Gemma2Model", **changes: Any) -> Any:
    """Random weights, the same for every call; large enough for attention to be uneven."""
    import transformers

    model = getattr(transformers, kind)(tiny_config(**changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()
