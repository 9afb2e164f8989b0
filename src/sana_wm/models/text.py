"""The caption encoder of the 2.6B model: Gemma-2 without its language head (spec 30, section 4.3)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.models.text_select import text_padded_length, text_token_positions

logger = logging.getLogger(__name__)

MAX_TOKENS = 300


class GemmaTextEncoder(nn.Module):
    """Prompts to caption features: the last hidden state, after the final norm.

    A prompt is read after the instruction prefix the model was trained with; the prefix steers the encoder and is
    then cut away, apart from BOS and the position of its last token. A negative prompt is read without the prefix.

    Attributes:
        model: `transformers.Gemma2Model`, any dtype and device.
        tokenizer: its tokenizer, which must put BOS in front.
        prefix: instruction prefix; empty for none.
        max_tokens: tokens L given to the transformer.
        attention_soft_cap: squash attention logits with the model's tanh cap. Off by default: the release ran Gemma-2
            through an attention path that leaves the cap out, so its weights saw plain softmax attention.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        prefix: str = "",
        max_tokens: int = MAX_TOKENS,
        attention_soft_cap: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.prefix = prefix
        self.max_tokens = max_tokens
        self.attention_soft_cap = attention_soft_cap
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        first = tokenizer(prefix)["input_ids"][:1]
        if tokenizer.bos_token_id is None or first != [tokenizer.bos_token_id] or tokenizer.pad_token_id is None:
            raise InputError(
                f"text encoder: the tokenizer starts a text with {first} and pads with {tokenizer.pad_token_id}; "
                f"it must start with BOS ({tokenizer.bos_token_id}) and have a padding token"
            )
        # Eager attention is the only path that applies the cap when there is one and plain softmax when there is none,
        # in every version of transformers.
        model.set_attn_implementation("eager")
        cap = model.config.attn_logit_softcapping if attention_soft_cap else None
        for layer in model.layers:
            layer.self_attn.attn_logit_softcapping = cap
        self.n_prefix = len(tokenizer(prefix)["input_ids"])

    @property
    def caption_channels(self) -> int:
        """Width of a feature, 2304 for Gemma-2 2B."""
        return int(self.model.config.hidden_size)

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features (B, 1, L, caption_channels) in the model's dtype and mask (B, L) int64, 1 where a token counts."""
        if not self.prefix:
            return self.encode_negative(prompts)
        length = text_padded_length(self.n_prefix, self.max_tokens)
        features, mask = self._encode([self.prefix + prompt for prompt in prompts], length)
        positions = text_token_positions(self.n_prefix, self.max_tokens).to(features.device)
        return features[:, positions][:, None], mask[:, positions]

    def encode_negative(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As :meth:`encode`, without the instruction prefix; an empty prompt is BOS and padding."""
        features, mask = self._encode(list(prompts), self.max_tokens)
        return features[:, None], mask

    @torch.no_grad()
    def _encode(self, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
        """Features (B, length, channels) and mask (B, length)."""
        if not texts:
            raise InputError("prompts is an empty list; at least one prompt is needed")
        self._warn_of_cuts(texts, length)
        tokens = self.tokenizer(texts, max_length=length, padding="max_length", truncation=True, return_tensors="pt")
        device = self.model.embed_tokens.weight.device
        mask = tokens["attention_mask"].to(device)
        output = self.model(input_ids=tokens["input_ids"].to(device), attention_mask=mask, use_cache=False)
        features = output.last_hidden_state
        if not bool(torch.isfinite(features).all()):
            raise InputError(
                f"text encoder: features are not finite in {features.dtype}; load it in bfloat16 or float32"
            )
        return features, mask

    def _warn_of_cuts(self, texts: list[str], length: int) -> None:
        for index, ids in enumerate(self.tokenizer(texts, verbose=False)["input_ids"]):
            if len(ids) > length:
                logger.warning("prompt %d is cut: its last %d tokens do not fit", index, len(ids) - length)
