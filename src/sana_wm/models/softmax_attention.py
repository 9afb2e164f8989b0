"""Self-attention of the softmax blocks and cross-attention to the caption (spec 10, sections 4 and 9)."""

from __future__ import annotations

from torch import Tensor, nn

from sana_wm.models.attention import DualBranchAttention
from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.embeddings import RMSNorm
from sana_wm.ops.attention import softmax_attention
from sana_wm.ops.features import norm_features
from sana_wm.ops.prepare import Norm, Turn, prepare_heads, split_heads
from sana_wm.ops.ucpe import RayFrames

CROSS_NORM_EPS = 1e-6


class SoftmaxAttention(DualBranchAttention):
    """Every token attends to every token, in both branches."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        default = config.head_dim**-0.5
        self.scale_main = default if config.softmax_scale_main is None else config.softmax_scale_main
        self.scale_cam = default if config.softmax_scale_cam is None else config.softmax_scale_cam

    def branches(self, u: Tensor, context: BlockContext) -> tuple[Tensor, Tensor | None]:
        camera = None if context.rays is None else self._camera_branch(u, context.rays)
        return self._main_branch(u, context), camera

    def _main_branch(self, u: Tensor, context: BlockContext) -> Tensor:
        q, k, v = self.qkv(u).chunk(3, dim=-1)
        turn = Turn(context.cos, context.sin)
        q, k = self._turned(q, self.q_norm, turn).to(v.dtype), self._turned(k, self.k_norm, turn).to(v.dtype)
        out = softmax_attention(q, k, split_heads(v, self.num_heads), scale=self.scale_main)
        return out.flatten(-2).unflatten(1, u.shape[1:3]).to(u.dtype)

    def _camera_branch(self, u: Tensor, rays: RayFrames) -> Tensor:
        v = self.v_proj_cam(u)
        q = self._turned(self.q_proj_cam(u), self.q_norm_cam, rays.query).to(v.dtype)
        k = self._turned(self.k_proj_cam(u), self.k_norm_cam, rays.key_value).to(v.dtype)
        moved = prepare_heads(v, self.num_heads, None, rays.key_value).turned.to(v.dtype)
        read = softmax_attention(q, k, moved, scale=self.scale_cam).flatten(-2).unflatten(1, u.shape[1:3])
        out = prepare_heads(read, self.num_heads, None, rays.output).turned
        return out.flatten(-2).unflatten(1, u.shape[1:3])

    def _turned(self, x: Tensor, norm: RMSNorm, turn: Turn) -> Tensor:
        return prepare_heads(x, self.num_heads, Norm(norm.weight, norm.eps), turn).turned


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
        heads = (self.num_heads, -1)
        k, v = self.kv_linear(context.caption).chunk(2, dim=-1)
        q = _normed(self.q_linear(x), self.q_norm).flatten(1, 2).to(v.dtype)
        k = self.k_norm(k).to(v.dtype)
        bias = None if context.caption_bias is None else context.caption_bias.to(v.dtype)
        q, k, v = (y.unflatten(-1, heads) for y in (q, k, v))
        out = softmax_attention(q, k, v, scale=q.shape[-1] ** -0.5, bias=bias)
        return self.proj(out.flatten(-2).to(x.dtype)).unflatten(1, x.shape[1:3])


def _normed(x: Tensor, norm: RMSNorm) -> Tensor:
    return norm_features(x, norm.weight, norm.eps)
