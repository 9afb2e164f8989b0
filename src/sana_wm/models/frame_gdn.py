"""Self-attention of the frame-wise Gated DeltaNet blocks (spec 10, sections 6 and 8)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.models.attention import DualBranchAttention
from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.embeddings import RMSNorm
from sana_wm.ops.gated_delta_fused import gated_delta
from sana_wm.ops.prepare import Norm, Turn, energy_growth, prepare_heads, split_heads
from sana_wm.ops.ucpe import RayFrames


class ShortConv(nn.Module):
    """Weights of the symmetric temporal filter on K."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, 1, kernel))


class CameraFeatures(NamedTuple):
    """Camera branch after the ray transforms: q, k, v (B,N,h,D) and the growth of |k|^2 in it, (B,N,h)."""

    q: Tensor
    k: Tensor
    v: Tensor
    inflation: Tensor


class FrameGatedDeltaNet(DualBranchAttention):
    """Linear attention whose state is updated once a frame, forward and backward in time."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        width, heads = config.width, config.num_heads
        self.key_scale = config.key_scale
        self.beta_proj = nn.Linear(width, heads)
        self.gate_proj = nn.Linear(width, heads)
        self.A_log = nn.Parameter(torch.zeros(heads))
        self.dt_bias = nn.Parameter(torch.zeros(heads))
        self.conv_k = ShortConv(width, config.conv_kernel)
        self.conv_k_cam = ShortConv(width, config.conv_kernel)

    def gates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Write strength beta (B,h,T,S) per token and decay (B,h,T) per frame, both from the modulated tokens."""
        beta = torch.sigmoid(self.beta_proj(u)).permute(0, 3, 1, 2)
        rate = F.softplus(self.gate_proj(u.mean(2)).float() + self.dt_bias.float())
        decay = torch.exp(-torch.exp(self.A_log.float()) * rate)
        return beta.float(), decay.transpose(1, 2)

    def branches(self, u: Tensor, context: BlockContext) -> tuple[Tensor, Tensor | None]:
        beta, decay = self.gates(u)  # shared by the branches
        camera = None if context.rays is None else self._camera_branch(u, context.rays, beta, decay)
        return self._main_branch(u, context, beta, decay), camera

    def _main_branch(self, u: Tensor, context: BlockContext, beta: Tensor, decay: Tensor) -> Tensor:
        q, k, v, q_rotated, k_rotated = self.main_features(u, context)
        out, _ = gated_delta(q_rotated, k_rotated, v, beta, decay, q=q, k=k)
        return _to_tokens(out).to(u.dtype)

    def main_features(self, u: Tensor, context: BlockContext) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q, k, v and rotated q, k of the main branch, (B,h,T,S,D) each."""
        q, k, v = self.qkv(u).chunk(3, dim=-1)
        turn = Turn(context.cos, context.sin)
        queries = prepare_heads(q, self.num_heads, self._query_norm(self.q_norm), turn)
        keys = prepare_heads(k, self.num_heads, self._key_norm(u, self.k_norm, self.conv_k), turn)
        found = (queries.normed, keys.normed, split_heads(v, self.num_heads), queries.turned, keys.turned)
        q, k, v, q_rotated, k_rotated = (_by_frame(x, u.shape[1]) for x in found)
        return q, k, v, q_rotated, k_rotated

    def camera_features(self, u: Tensor, rays: RayFrames) -> CameraFeatures:
        heads = self.num_heads
        q = prepare_heads(self.q_proj_cam(u), heads, self._query_norm(self.q_norm_cam), rays.query).turned
        norm = self._key_norm(u, self.k_norm_cam, self.conv_k_cam)
        keys = prepare_heads(self.k_proj_cam(u), heads, norm, rays.key_value)
        v = prepare_heads(self.v_proj_cam(u), heads, None, rays.key_value).turned
        return CameraFeatures(q, keys.turned, v, energy_growth(keys))

    def discounted_beta(self, beta: Tensor, inflation: Tensor) -> Tensor:
        """A frame's beta (B,h,T,S) over the mean growth of its keys, so that moved keys do not overwrite the state."""
        mean_inflation = inflation.unflatten(1, beta.shape[2:]).mean(2).permute(0, 2, 1)
        return beta / mean_inflation.clamp_min(1.0)[..., None]

    def _camera_branch(self, u: Tensor, rays: RayFrames, beta: Tensor, decay: Tensor) -> Tensor:
        q, k, v, discounted = self.camera_writes(u, rays, beta)
        read, _ = gated_delta(q, k, v, discounted, decay)
        moved = prepare_heads(_to_tokens(read), self.num_heads, None, rays.output).turned
        return moved.flatten(-2).unflatten(1, u.shape[1:3])

    def camera_writes(self, u: Tensor, rays: RayFrames, beta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v of the camera branch, (B,h,T,S,D) each, and its own beta (B,h,T,S)."""
        features = self.camera_features(u, rays)
        q, k, v = (_by_frame(x, u.shape[1]) for x in features[:3])
        return q, k, v, self.discounted_beta(beta, features.inflation)

    def _query_norm(self, norm: RMSNorm) -> Norm:
        return Norm(norm.weight, norm.eps, relu=True)

    def _key_norm(self, u: Tensor, norm: RMSNorm, conv: ShortConv) -> Norm:
        """Scaled by (D * S)^-1/2, which keeps the write matrix of a whole frame below 1, or less for comparison."""
        head_dim, tokens = u.shape[-1] // self.num_heads, u.shape[2]
        scale = {"frame": head_dim * tokens, "head": head_dim, "none": 1}[self.key_scale] ** -0.5
        return Norm(norm.weight, norm.eps, taps=conv.weight, relu=True, scale=scale)


def _by_frame(x: Tensor, frames: int) -> Tensor:
    """(B, N, h, D) -> (B, h, T, S, D)."""
    return x.unflatten(1, (frames, -1)).permute(0, 3, 1, 2, 4)


def _to_tokens(x: Tensor) -> Tensor:
    """(B, h, T, S, D) -> (B, T, S, width)."""
    return x.permute(0, 2, 3, 1, 4).flatten(-2)
