"""Self-attention of the softmax blocks and cross-attention to the caption (spec 10, sections 4 and 9)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.models.attention import Branches, DualBranchAttention
from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.embeddings import RMSNorm
from sana_wm.models.history import ChunkKeys, SoftmaxMemory
from sana_wm.models.visibility import WHOLE, Visibility
from sana_wm.ops.attention import softmax_attention
from sana_wm.ops.features import norm_features
from sana_wm.ops.parts import by_frames
from sana_wm.ops.prepare import Norm, Turn, prepare_heads, split_heads
from sana_wm.ops.ucpe import RayFrames

CROSS_NORM_EPS = 1e-6


class SoftmaxAttention(DualBranchAttention[SoftmaxMemory]):
    """Every token attends to all tokens that its chunk may see, in both branches."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        default = config.head_dim**-0.5
        self.scale_main = default if config.softmax_scale_main is None else config.softmax_scale_main
        self.scale_cam = default if config.softmax_scale_cam is None else config.softmax_scale_cam
        self.masked = config.masked_softmax

    def branches(self, u: Tensor, context: BlockContext, past: SoftmaxMemory | None = None) -> Branches[SoftmaxMemory]:
        sees = context.visibility
        if not self.masked:
            if past is not None or sees.saved:
                raise InputError("this model's softmax blocks see a whole call (masked_softmax); it cannot stream.")
            sees = WHOLE
        chunks = _chunks_of(u, sees)
        saved = chunks[: sees.saved]
        earlier = {} if past is None else past.chunks
        # One after the other: what the first needed is gone before the second begins.
        main, kept = self._main(u, context).read(chunks, {i: (c.keys, c.values) for i, c in earlier.items()}, saved)
        main = main.flatten(-2).unflatten(1, u.shape[1:3]).to(u.dtype)
        camera: Tensor | None = None
        moved: dict[int, KeysValues] = {}
        if context.rays is not None:
            theirs = {i: (_there(c.camera_keys), _there(c.camera_values)) for i, c in earlier.items()}
            camera, moved = self._camera(u, context.rays).read(chunks, theirs, saved)
            camera = camera.flatten(-2).unflatten(1, u.shape[1:3])
            camera = prepare_heads(camera, self.num_heads, None, context.rays.output).turned
            camera = camera.flatten(-2).unflatten(1, u.shape[1:3])
        if not saved:
            return Branches(main, camera, None)
        new = {number: ChunkKeys(*kept[number], *moved.get(number, ())) for number in kept}
        return Branches(main, camera, (past or SoftmaxMemory({})).with_chunks(new, sees))

    def _main(self, u: Tensor, context: BlockContext) -> Reading:
        q, k, v = self.qkv(u).chunk(3, dim=-1)
        turn = Turn(context.cos, context.sin)
        q, k = self._turned(q, self.q_norm, turn).to(v.dtype), self._turned(k, self.k_norm, turn).to(v.dtype)
        return Reading(q, k, split_heads(v, self.num_heads), self.scale_main)

    def _camera(self, u: Tensor, rays: RayFrames) -> Reading:
        v = self.v_proj_cam(u)
        q = self._turned(self.q_proj_cam(u), self.q_norm_cam, rays.query).to(v.dtype)
        k = self._turned(self.k_proj_cam(u), self.k_norm_cam, rays.key_value).to(v.dtype)
        return Reading(q, k, prepare_heads(v, self.num_heads, None, rays.key_value).turned.to(v.dtype), self.scale_cam)

    def _turned(self, x: Tensor, norm: RMSNorm, turn: Turn) -> Tensor:
        return prepare_heads(x, self.num_heads, Norm(norm.weight, norm.eps), turn).turned


KeysValues = tuple[Tensor, Tensor]
"""(B,n*S,h,D) each."""


class ChunkSpan(NamedTuple):
    """A chunk of a call: its number in the video, its tokens in the call, the chunks of the video that it reads."""

    number: int
    tokens: slice
    sees: list[int]


def _chunks_of(u: Tensor, visibility: Visibility) -> list[ChunkSpan]:
    """The chunks of a call on tokens u (B,T,S,C)."""
    frames, tokens = u.shape[1:3]
    first = visibility.first_chunk
    return [
        ChunkSpan(first + i, slice(a * tokens, b * tokens), visibility.sees(first + i))
        for i, (a, b) in enumerate(visibility.bounds(frames))
    ]


class Reading(NamedTuple):
    """Queries, keys and values of a call, (B,N,h,D) each."""

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float

    def read(
        self, chunks: list[ChunkSpan], past: dict[int, KeysValues], saved: list[ChunkSpan]
    ) -> tuple[Tensor, dict[int, KeysValues]]:
        """(B,N,h,D): every chunk reads the keys and values of those it sees, of earlier calls and of this one.

        Also copies of the keys and values of the `saved` ones: views would keep the rest of the call alive.
        """
        here = {span.number: (self.k[:, span.tokens], self.v[:, span.tokens]) for span in chunks}
        kept = {span.number: (here[span.number][0].clone(), here[span.number][1].clone()) for span in saved}
        if len(chunks) == 1 and not past:
            return softmax_attention(self.q, self.k, self.v, scale=self.scale), kept
        found = []
        for span in chunks:
            seen = [past[i] if i in past else here[i] for i in span.sees]
            k, v = (torch.cat(parts, 1) for parts in zip(*seen, strict=True))
            found.append(softmax_attention(self.q[:, span.tokens], k, v, scale=self.scale))
        return torch.cat(found, 1), kept


def _there(x: Tensor | None) -> Tensor:
    """What a past with cameras has.

    Raises:
        InputError: it has none.
    """
    if x is None:
        raise InputError("the chunks so far were made without cameras; a later one cannot have any.")
    return x


class CrossAttention(nn.Module):
    """Tokens read the caption; no rotary embedding, no gate."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm = RMSNorm(width, CROSS_NORM_EPS)
        self.k_norm = RMSNorm(width, CROSS_NORM_EPS)

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        k, v = self.kv_linear(context.caption).chunk(2, dim=-1)
        k, v = (y.unflatten(-1, (self.num_heads, -1)) for y in (self.k_norm(k).to(v.dtype), v))
        bias = None if context.caption_bias is None else context.caption_bias.to(v.dtype)

        def read(part: Tensor) -> Tensor:
            q = split_heads(_normed(self.q_linear(part), self.q_norm), self.num_heads).to(v.dtype)
            out = softmax_attention(q, k, v, scale=q.shape[-1] ** -0.5, bias=bias)
            return self.proj(out.flatten(-2).to(part.dtype)).unflatten(1, part.shape[1:3])

        return by_frames(read, x)


def _normed(x: Tensor, norm: RMSNorm) -> Tensor:
    return norm_features(x, norm.weight, norm.eps)
