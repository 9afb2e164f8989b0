"""The nano world's text encoder: bytes in, caption features out, trained together with the transformer."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.models.config import NanoTextConfig

logger = logging.getLogger(__name__)

PAD, BEGIN = 0, 1
FIRST_BYTE = 2
VOCABULARY = FIRST_BYTE + 256


class TextLayer(nn.Module):
    """Pre-norm self-attention over the caption's tokens and a small MLP."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 3 * channels)
        self.fc2 = nn.Linear(3 * channels, channels)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """x (B, L, C); keep (B, 1, 1, L) boolean."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2).flatten(2)
        x = x + self.proj(mixed)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class NanoTextEncoder(nn.Module):
    """UTF-8 bytes, `stride` of them to a token, through a few transformer layers.

    Attributes:
        caption_channels: channels of a feature.
        max_tokens: tokens of every caption; longer prompts are cut, with a warning.
    """

    def __init__(self, config: NanoTextConfig) -> None:
        super().__init__()
        self.config = config
        self.caption_channels = config.channels
        self.max_tokens = config.max_tokens
        self.bytes = nn.Embedding(VOCABULARY, config.channels)
        self.merge = nn.Conv1d(config.channels, config.channels, 2 * config.stride + 1, config.stride, config.stride)
        self.positions = nn.Parameter(torch.zeros(config.max_tokens, config.channels))
        self.layers = nn.ModuleList(TextLayer(config.channels, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.channels)
        nn.init.normal_(self.positions, std=0.02)

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Prompts -> (B, stride * max_tokens) byte ids, on the CPU: a begin mark, the bytes, padding."""
        length = self.config.stride * self.max_tokens
        rows = []
        for prompt in prompts:
            encoded = prompt.strip().encode("utf-8", errors="replace")
            if len(encoded) > length - 1:
                logger.warning("prompt of %d bytes is cut to the %d this model reads", len(encoded), length - 1)
            ids = [BEGIN, *(FIRST_BYTE + byte for byte in encoded[: length - 1])]
            rows.append(ids + [PAD] * (length - len(ids)))
        return torch.tensor(rows)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Byte ids (B, stride * L) -> features (B, 1, L, C) and mask (B, L)."""
        real = ids != PAD
        mask = real.unflatten(1, (-1, self.config.stride)).any(-1)
        x = self.bytes(ids) * real[..., None]
        x = self.merge(x.transpose(1, 2)).transpose(1, 2) + self.positions
        keep = mask[:, None, None]
        for layer in self.layers:
            x = layer(x, keep)
        return self.norm(x)[:, None], mask.long()

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Features (B, 1, L, C) and mask (B, L) of `prompts`."""
        return self(self.tokenize(prompts).to(self.positions.device))

    def encode_negative(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """The same: nano has no instruction prefix that a negative prompt would leave out."""
        return self.encode(prompts)
