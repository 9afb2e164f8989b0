"""Self-attention of the frame-wise Gated DeltaNet blocks (spec 10, sections 6 and 8)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.models.attention import Branches, DualBranchAttention
from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.embeddings import RMSNorm
from sana_wm.models.history import GdnMemory
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


class MainFeatures(NamedTuple):
    """q, k, v and rotated q, k of the main branch, (B,h,T,S,D) each; and the tail of the filter on the keys after what
    the call saves, None if that is nothing."""

    q: Tensor
    k: Tensor
    v: Tensor
    q_rotated: Tensor
    k_rotated: Tensor
    key_tail: Tensor | None


class CameraFeatures(NamedTuple):
    """Camera branch after the ray transforms: q, k, v (B,N,h,D), the growth of |k|^2 in it, (B,N,h), and the tail."""

    q: Tensor
    k: Tensor
    v: Tensor
    inflation: Tensor
    key_tail: Tensor | None


class CameraWrites(NamedTuple):
    """q, k, v of the camera branch, (B,h,T,S,D) each, its own beta (B,h,T,S), and the tail."""

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    key_tail: Tensor | None


class Read(NamedTuple):
    """What a branch read, (B,T,S,width); the states after what the call saves, None if that is nothing; the tail."""

    tokens: Tensor
    end: FinalStates | None
    key_tail: Tensor | None


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
        # One after the other: what the first needed is gone before the second begins.
        camera = None if context.rays is None else self._camera_branch(u, context, context.rays, beta, decay, past)
        main = self._main_branch(u, context, beta, decay, past)
        memory = None
        if main.end is not None and main.end.z is not None and main.key_tail is not None:
            memory = GdnMemory(main.end.state, main.end.z, main.key_tail)
            if camera is not None and camera.end is not None:
                memory = replace(memory, camera=camera.end.state, camera_key_tail=camera.key_tail)
        return Branches(main.tokens, None if camera is None else camera.tokens, memory)

    def _main_branch(
        self, u: Tensor, context: BlockContext, beta: Tensor, decay: Tensor, past: GdnMemory | None
    ) -> Read:
        f = self.main_features(u, context, past)
        writes = Writes(f.q_rotated, f.k_rotated, f.v, beta, decay, f.q, f.k)
        out, end = _scanned(context, writes, None if past is None else FinalStates(past.state, past.z))
        return Read(_to_tokens(out).to(u.dtype), end, f.key_tail)

    def main_features(self, u: Tensor, context: BlockContext, past: GdnMemory | None = None) -> MainFeatures:
        q, k, v = self.qkv(u).chunk(3, dim=-1)
        turn = Turn(context.cos, context.sin)
        queries = prepare_heads(q, self.num_heads, self._query_norm(self.q_norm), turn)
        before = None if past is None else past.key_tail
        keys, tail = self._keys(k, self.k_norm, self.conv_k, turn, context, before)
        found = (queries.normed, keys.normed, split_heads(v, self.num_heads), queries.turned, keys.turned)
        q, k, v, q_rotated, k_rotated = (_by_frame(x, u.shape[1]) for x in found)
        return MainFeatures(q, k, v, q_rotated, k_rotated, tail)

    def camera_features(
        self, u: Tensor, context: BlockContext, rays: RayFrames, past: GdnMemory | None = None
    ) -> CameraFeatures:
        heads = self.num_heads
        q = prepare_heads(self.q_proj_cam(u), heads, self._query_norm(self.q_norm_cam), rays.query).turned
        before = past.camera_key_tail if past is not None and self.camera_conv_left_context else None
        k = self.k_proj_cam(u)
        keys, tail = self._keys(k, self.k_norm_cam, self.conv_k_cam, rays.key_value, context, before)
        v = prepare_heads(self.v_proj_cam(u), heads, None, rays.key_value).turned
        return CameraFeatures(q, keys.turned, v, energy_growth(keys), tail)

    def discounted_beta(self, beta: Tensor, inflation: Tensor) -> Tensor:
        """A frame's beta (B,h,T,S) over the mean growth of its keys, so that moved keys do not overwrite the state."""
        mean_inflation = inflation.unflatten(1, beta.shape[2:]).mean(2).permute(0, 2, 1)
        return beta / mean_inflation.clamp_min(1.0)[..., None]

    def _camera_branch(
        self, u: Tensor, context: BlockContext, rays: RayFrames, beta: Tensor, decay: Tensor, past: GdnMemory | None
    ) -> Read:
        f = self.camera_writes(u, context, rays, beta, past)
        start = None if past is None or past.camera is None else FinalStates(past.camera, None)
        out, end = _scanned(context, Writes(f.q, f.k, f.v, f.beta, decay), start)
        moved = prepare_heads(_to_tokens(out), self.num_heads, None, rays.output).turned
        return Read(moved.flatten(-2).unflatten(1, u.shape[1:3]), end, f.key_tail)

    def camera_writes(
        self, u: Tensor, context: BlockContext, rays: RayFrames, beta: Tensor, past: GdnMemory | None = None
    ) -> CameraWrites:
        features = self.camera_features(u, context, rays, past)
        q, k, v = (_by_frame(x, u.shape[1]) for x in features[:3])
        return CameraWrites(q, k, v, self.discounted_beta(beta, features.inflation), features.key_tail)

    def _query_norm(self, norm: RMSNorm) -> Norm:
        return Norm(norm.weight, norm.eps, relu=True)

    def _keys(
        self, k: Tensor, norm: RMSNorm, conv: ShortConv, turn: Turn, context: BlockContext, past: Tensor | None
    ) -> tuple[Prepared, Tensor | None]:
        """Filter, norm, ReLU and heads of projected keys k (B,T,S,C), and the filter's tail after what the call saves.

        Scaled by (D * S)^-1/2, which keeps the write matrix of a whole frame below 1, or less for comparison.
        """
        head_dim, tokens = k.shape[-1] // self.num_heads, k.shape[2]
        scale = {"frame": head_dim * tokens, "head": head_dim, "none": 1}[self.key_scale] ** -0.5
        taps: Tensor | None = conv.weight
        tail = None
        if context.chunk is not None or past is not None or context.saved_frames:
            before = k.new_zeros(k.shape[0], conv.weight.shape[-1] - 1, *k.shape[2:]) if past is None else past
            tail = last_frames(k[:, : context.saved_frames], before) if context.saved_frames else None
            k, taps = chunked_short_conv(k, conv.weight, context.chunk, before), None
        prepared = prepare_heads(k, self.num_heads, Norm(norm.weight, norm.eps, taps, relu=True, scale=scale), turn)
        return prepared, tail


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
    batch, frames, saved = len(writes.decay), writes.decay.shape[-1], context.saved_frames
    keep = None
    if context.chunk is not None:  # no earlier frame sees the first one of a chunk, nor what comes after that
        same = (context.chunk[1:] == context.chunk[:-1]).float()
        keep = F.pad(same, (1, 0)).expand(batch, -1)
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
