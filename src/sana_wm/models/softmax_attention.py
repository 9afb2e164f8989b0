"""Self-attention of the softmax blocks and cross-attention to the caption (spec 10, sections 4 and 9)."""

from __future__ import annotations

from torch import Tensor, nn

from sana_wm.models.attention import DualBranchAttention
from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.embeddings import RMSNorm
from sana_wm.ops.attention import softmax_attention
from sana_wm.ops.features import norm_features, rotate_heads
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
        q, k, v = (self.split_heads(x) for x in (_normed(q, self.q_norm), _normed(k, self.k_norm), v))
        q, k = (rotate_heads(x, context.cos, context.sin).to(v.dtype) for x in (q, k))
        out = softmax_attention(q, k, v, scale=self.scale_main)
        return out.flatten(-2).unflatten(1, u.shape[1:3]).to(u.dtype)

    def _camera_branch(self, u: Tensor, rays: RayFrames) -> Tensor:
        v = self.v_proj_cam(u)
        q = self.split_heads(_normed(self.q_proj_cam(u), self.q_norm_cam))
        k = self.split_heads(_normed(self.k_proj_cam(u), self.k_norm_cam))
        q, k = rays.query(q).to(v.dtype), rays.key_value(k).to(v.dtype)
        moved = rays.key_value(self.split_heads(v)).to(v.dtype)
        out = rays.output(softmax_attention(q, k, moved, scale=self.scale_cam))
        return out.flatten(-2).unflatten(1, u.shape[1:3])


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
