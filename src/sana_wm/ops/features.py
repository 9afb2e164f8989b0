"""From projections to what tokens mix: filter and normalise, then turn and move (spec 10, sections 6 to 9).

Every function has its plain twin beside it; on a CUDA device with Triton the kernels of `features_triton` run instead,
forward and backward, and give the dtype of their input. The plain twins give float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.dispatch import kernels_take
from sana_wm.ops.norm import rms_norm
from sana_wm.ops.parts import by_frames
from sana_wm.ops.rotary import rotate_pairs
from sana_wm.ops.temporal_conv import symmetric_short_conv

WIDEST = 8192


def norm_features(
    x: Tensor, gain: Tensor, eps: float, *, taps: Tensor | None = None, relu: bool = False, scale: float = 1.0
) -> Tensor:
    """The symmetric filter along time, RMSNorm over all channels, then with `relu` max(., 0) * scale.

    x: (B,T,S,C); gain: (C,); taps: (C,1,K), none for no filter.
    """
    if kernels_take(x) and x.shape[-1] <= WIDEST:
        return fused_norm(x, gain, taps, eps, scale, relu)
    return norm_features_plain(x, gain, eps, taps=taps, relu=relu, scale=scale)


def norm_features_plain(
    x: Tensor, gain: Tensor, eps: float, *, taps: Tensor | None = None, relu: bool = False, scale: float = 1.0
) -> Tensor:
    """As :func:`norm_features`; float32, or float64 for float64."""
    if taps is not None:
        x = symmetric_short_conv(x, taps)
    gain = gain if scale == 1 else gain.float() * scale  # not a pass over the tokens of its own

    def normed(part: Tensor) -> Tensor:
        out = rms_norm(part, gain, eps)
        return F.relu(out, inplace=not torch.is_grad_enabled()) if relu else out

    return by_frames(normed, x)


@torch.library.custom_op("sana_wm::norm_features", mutates_args=())
def fused_norm(x: Tensor, gain: Tensor, taps: Tensor | None, eps: float, scale: float, relu: bool) -> Tensor:
    from sana_wm.ops.features_triton import normed

    return normed(x, gain, taps, eps, scale, relu)


@fused_norm.register_fake
def _(x: Tensor, gain: Tensor, taps: Tensor | None, eps: float, scale: float, relu: bool) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("sana_wm::norm_features_grad", mutates_args=())
def fused_norm_grad(
    grad: Tensor, x: Tensor, gain: Tensor, taps: Tensor | None, eps: float, scale: float, relu: bool
) -> list[Tensor]:
    from sana_wm.ops.features_triton import norm_grads

    return [found for found in norm_grads(grad, x, gain, taps, eps, scale, relu) if found is not None]


@fused_norm_grad.register_fake
def _(
    grad: Tensor, x: Tensor, gain: Tensor, taps: Tensor | None, eps: float, scale: float, relu: bool
) -> list[Tensor]:
    return [like.new_empty(like.shape) for like in (x, gain, taps) if like is not None]


def _save_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = inputs[3:]


def _norm_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dx, dgain, *rest = fused_norm_grad(grad, *ctx.saved_tensors, *ctx.settings)
    return dx, dgain, rest[0] if rest else None, None, None, None


fused_norm.register_autograd(_norm_backward, setup_context=_save_norm)


def rotate_heads(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of every head: x (B,N,h,D), cos and sin (N,D/2)."""
    if kernels_take(x):
        return fused_transform(x, None, cos, sin, 1.0, False)
    return rotate_pairs(x, cos[:, None], sin[:, None])


def move_heads(
    x: Tensor, matrix: Tensor, cos: Tensor, sin: Tensor, *, inverse: bool = False, transposed: bool = False
) -> Tensor:
    """A matrix (B,N,4,4) on the groups of four of a head's first half, a rotation on its second half.

    x: (B,N,h,D); cos and sin (N,D/4), the angle negated with `inverse`; the matrix turned over with `transposed`. No
    gradient goes to the tables and the matrix.
    """
    if kernels_take(x):
        return fused_transform(x, matrix, cos, sin, -1.0 if inverse else 1.0, transposed)
    return move_heads_plain(x, matrix.mT if transposed else matrix, cos, -sin if inverse else sin)


def move_heads_plain(x: Tensor, matrix: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    geometric, rotary = x.to(wide).chunk(2, dim=-1)
    groups = geometric.unflatten(-1, (-1, 4)).flatten(2, 3)  # (B, N, h*D/8, 4): rows that the matrix moves
    moved = (groups @ matrix.to(wide).mT).view_as(geometric)
    rotated = rotate_pairs(rotary, cos[:, None], sin[:, None])
    return torch.cat([moved, rotated], dim=-1)


@torch.library.custom_op("sana_wm::head_transform", mutates_args=())
def fused_transform(
    x: Tensor, matrix: Tensor | None, cos: Tensor, sin: Tensor, sign: float, transposed: bool
) -> Tensor:
    from sana_wm.ops.features_triton import transformed

    return transformed(x, matrix, cos, sin, sign, transposed)


@fused_transform.register_fake
def _(x: Tensor, matrix: Tensor | None, cos: Tensor, sin: Tensor, sign: float, transposed: bool) -> Tensor:
    return x.new_empty(x.shape)


def _save_transform(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, matrix, cos, sin, ctx.sign, ctx.transposed = inputs
    ctx.save_for_backward(matrix, cos, sin)


def _transform_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The transpose: the other way round, by the matrix turned over."""
    matrix, cos, sin = ctx.saved_tensors
    return fused_transform(grad, matrix, cos, sin, -ctx.sign, not ctx.transposed), None, None, None, None, None


fused_transform.register_autograd(_transform_backward, setup_context=_save_transform)


def head_energy(x: Tensor) -> Tensor:
    """Sum of squares of every head: (B,N,h,D) -> (B,N,h), float32."""
    return fused_energy(x) if kernels_take(x) else torch.linalg.vector_norm(x, dim=-1).square()


@torch.library.custom_op("sana_wm::head_energy", mutates_args=())
def fused_energy(x: Tensor) -> Tensor:
    from sana_wm.ops.features_triton import energies

    return energies(x)


@fused_energy.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty(x.shape[:-1], device=x.device)


def _save_energy(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _energy_backward(ctx: Any, grad: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    return (2 * grad[..., None] * x).to(x.dtype)


fused_energy.register_autograd(_energy_backward, setup_context=_save_energy)
