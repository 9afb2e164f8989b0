"""Self-attention of the frame-wise Gated DeltaNet blocks (spec 10, sections 6 and 8)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.models.attention import Branches, DualBranchAttention
from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.embeddings import RMSNorm
from sana_wm.models.history import GdnMemory
from sana_wm.models.visibility import WHOLE, Visibility
from sana_wm.ops.gated_delta import FinalStates
from sana_wm.ops.gated_delta_fused import gated_delta
from sana_wm.ops.prepare import Norm, Prepared, Turn, energy_growth, prepare_heads, split_heads
from sana_wm.ops.temporal_conv import chunked_short_conv, last_frames
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


class FrameGatedDeltaNet(DualBranchAttention[GdnMemory]):
    """Linear attention whose state is updated once a frame: with time through all chunks, against it inside each."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        width, heads = config.width, config.num_heads
        self.key_scale = config.key_scale
        self.camera_conv_left_context = config.camera_conv_left_context
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

    def branches(self, u: Tensor, context: BlockContext, past: GdnMemory | None = None) -> Branches[GdnMemory]:
        beta, decay = self.gates(u)  # shared by the branches
        camera = camera_state = None
        if context.rays is not None:
            q, k, v, discounted = self.camera_writes(u, context.rays, beta, context, past)
            start = None if past is None or past.camera is None else FinalStates(past.camera, None)
            read, camera_state = _scanned(context, Writes(q, k, v, discounted, decay), start)
            camera = prepare_heads(_to_tokens(read), self.num_heads, None, context.rays.output).turned
            camera = camera.flatten(-2).unflatten(1, u.shape[1:3])
        q, k, v, q_rotated, k_rotated = self.main_features(u, context, past)
        start = None if past is None else FinalStates(past.state, past.z)
        out, state = _scanned(context, Writes(q_rotated, k_rotated, v, beta, decay, q, k), start)
        memory = None if state is None else self._memory(u, context, past, state, camera_state)
        return Branches(_to_tokens(out).to(u.dtype), camera, memory)

    def _memory(
        self,
        u: Tensor,
        context: BlockContext,
        past: GdnMemory | None,
        state: FinalStates,
        camera_state: FinalStates | None,
    ) -> GdnMemory:
        """What is left of the saved frames of u."""
        saved = u[:, : context.visibility.saved_frames(u.shape[1])]
        kernel = self.conv_k.weight.shape[-1]
        # Only the last frames can be in the tail, so only they are projected once more.
        last = saved[:, -(kernel - 1) :] if kernel > 1 else saved[:, :0]
        _, key_weight, _ = self.qkv.weight.chunk(3)
        key_tail = last_frames(F.linear(last, key_weight), self._tail(u, None if past is None else past.key_tail))
        assert state.z is not None
        if camera_state is None:
            return GdnMemory(state.state, state.z, key_tail)
        before = self._tail(u, None if past is None else past.camera_key_tail)
        return GdnMemory(state.state, state.z, key_tail, camera_state.state, last_frames(self.k_proj_cam(last), before))

    def _tail(self, u: Tensor, past: Tensor | None) -> Tensor:
        """The frames before a call that the filter on the keys reaches; zeros before the first."""
        shape = (u.shape[0], self.conv_k.weight.shape[-1] - 1, *u.shape[2:])
        return u.new_zeros(shape) if past is None else past

    def main_features(
        self, u: Tensor, context: BlockContext, past: GdnMemory | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q, k, v and rotated q, k of the main branch, (B,h,T,S,D) each."""
        q, k, v = self.qkv(u).chunk(3, dim=-1)
        turn = Turn(context.cos, context.sin)
        queries = prepare_heads(q, self.num_heads, self._query_norm(self.q_norm), turn)
        tail = None if past is None else past.key_tail
        keys = self._keys(k, self.k_norm, self.conv_k, turn, context.visibility, tail)
        found = (queries.normed, keys.normed, split_heads(v, self.num_heads), queries.turned, keys.turned)
        q, k, v, q_rotated, k_rotated = (_by_frame(x, u.shape[1]) for x in found)
        return q, k, v, q_rotated, k_rotated

    def camera_features(
        self, u: Tensor, rays: RayFrames, visibility: Visibility = WHOLE, past: GdnMemory | None = None
    ) -> CameraFeatures:
        heads = self.num_heads
        q = prepare_heads(self.q_proj_cam(u), heads, self._query_norm(self.q_norm_cam), rays.query).turned
        tail = past.camera_key_tail if past is not None and self.camera_conv_left_context else None
        k = self.k_proj_cam(u)
        keys = self._keys(k, self.k_norm_cam, self.conv_k_cam, rays.key_value, visibility, tail)
        v = prepare_heads(self.v_proj_cam(u), heads, None, rays.key_value).turned
        return CameraFeatures(q, keys.turned, v, energy_growth(keys))

    def discounted_beta(self, beta: Tensor, inflation: Tensor) -> Tensor:
        """A frame's beta (B,h,T,S) over the mean growth of its keys, so that moved keys do not overwrite the state."""
        mean_inflation = inflation.unflatten(1, beta.shape[2:]).mean(2).permute(0, 2, 1)
        return beta / mean_inflation.clamp_min(1.0)[..., None]

    def camera_writes(
        self,
        u: Tensor,
        rays: RayFrames,
        beta: Tensor,
        context: BlockContext | None = None,
        past: GdnMemory | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v of the camera branch, (B,h,T,S,D) each, and its own beta (B,h,T,S)."""
        visibility = WHOLE if context is None else context.visibility
        features = self.camera_features(u, rays, visibility, past)
        q, k, v = (_by_frame(x, u.shape[1]) for x in features[:3])
        return q, k, v, self.discounted_beta(beta, features.inflation)

    def _query_norm(self, norm: RMSNorm) -> Norm:
        return Norm(norm.weight, norm.eps, relu=True)

    def _keys(
        self, k: Tensor, norm: RMSNorm, conv: ShortConv, turn: Turn, visibility: Visibility, tail: Tensor | None
    ) -> Prepared:
        """Filter, norm, ReLU and heads of projected keys k (B,T,S,C).

        Scaled by (D * S)^-1/2, which keeps the write matrix of a whole frame below 1, or less for comparison.
        """
        taps: Tensor | None = conv.weight
        if not visibility.whole or tail is not None:
            frames = k.shape[1]
            before = self._tail(k, tail)
            k = chunked_short_conv(k, conv.weight, lambda o: visibility.same_chunk(o, frames, k.device), before)
            taps = None
        head_dim, tokens = k.shape[-1] // self.num_heads, k.shape[2]
        scale = {"frame": head_dim * tokens, "head": head_dim, "none": 1}[self.key_scale] ** -0.5
        return prepare_heads(k, self.num_heads, Norm(norm.weight, norm.eps, taps=taps, relu=True, scale=scale), turn)


class Writes(NamedTuple):
    """What the gated delta rule is given of a call, along frames in axis 2; q and k for the denominator only."""

    q_rotated: Tensor
    k_rotated: Tensor
    v: Tensor
    beta: Tensor
    decay: Tensor
    q: Tensor | None = None
    k: Tensor | None = None

    def read(self, keep: Tensor | None, start: FinalStates | None) -> tuple[Tensor, FinalStates]:
        return gated_delta(*self[:5], q=self.q, k=self.k, keep=keep, start=start)

    def frames(self, first: int, end: int) -> Writes:
        return Writes(*(None if x is None else x[:, :, first:end] for x in self))  # type: ignore[arg-type]


def _scanned(context: BlockContext, writes: Writes, start: FinalStates | None) -> tuple[Tensor, FinalStates | None]:
    """What all frames read, and the states after the saved ones."""
    frames, keep = writes.decay.shape[-1], context.keep
    saved = context.visibility.saved_frames(frames)
    if saved in (0, frames):
        out, end = writes.read(keep, start)
        return out, end if saved else None
    # Nothing of a later chunk reaches the saved ones, so they can go first.
    before, after = (None, None) if keep is None else (keep[:, :saved], keep[:, saved:])
    first, end = writes.frames(0, saved).read(before, start)
    second, _ = writes.frames(saved, frames).read(after, end)
    return torch.cat([first, second], 2), end


def _by_frame(x: Tensor, frames: int) -> Tensor:
    """(B, N, h, D) -> (B, h, T, S, D)."""
    return x.unflatten(1, (frames, -1)).permute(0, 3, 1, 2, 4)


def _to_tokens(x: Tensor) -> Tensor:
    """(B, h, T, S, D) -> (B, T, S, width)."""
    return x.permute(0, 2, 3, 1, 4).flatten(-2)
