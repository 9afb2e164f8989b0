"""From a projection to what tokens mix: filter along time, norm, ReLU, scale, heads, turn, move (spec 10, 6 to 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sana_wm.ops.dispatch import inference_kernels_take
from sana_wm.ops.features import head_energy, move_heads, norm_features, rotate_heads

MIN_ENERGY = 1e-12


@dataclass(frozen=True)
class Norm:
    """RMSNorm over all channels, after the filter `taps` (C,1,K); with `relu` then max(., 0); then * scale."""

    gain: Tensor
    eps: float
    taps: Tensor | None = None
    relu: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Turn:
    """What happens to heads: a rotation, with a matrix of their second half only, and the matrix on their first half.

    cos, sin: (N,D/2), with a matrix (N,D/4); matrix: (B,N,4,4), turned over with `transposed`. `inverse` turns back.
    """

    cos: Tensor
    sin: Tensor
    matrix: Tensor | None = None
    inverse: bool = False
    transposed: bool = False

    def of(self, x: Tensor) -> Tensor:
        """Heads (B,N,h,D)."""
        if self.matrix is None:
            return rotate_heads(x, self.cos, -self.sin if self.inverse else self.sin)
        return move_heads(x, self.matrix, self.cos, self.sin, inverse=self.inverse, transposed=self.transposed)


class Prepared(NamedTuple):
    """turned: (B,N,h,D); where asked for, normed: the same before turning, growth: (B,N,h) of the energy by turning."""

    turned: Tensor
    normed: Tensor | None
    growth: Tensor | None


def prepare_heads(
    x: Tensor, heads: int, norm: Norm | None, turn: Turn, *, keep: bool = False, growth: bool = False
) -> Prepared:
    """x: (B,T,S,C); `keep` and `growth` ask for what `Prepared` has besides."""
    if not inference_kernels_take(x):
        return prepare_heads_plain(x, heads, norm, turn, keep=keep, growth=growth)
    from sana_wm.ops.prepare_triton import prepared

    sign = -1.0 if turn.inverse else 1.0
    gain, taps = (None, None) if norm is None else (norm.gain, norm.taps)
    eps, scale, relu = (0.0, 1.0, False) if norm is None else (norm.eps, norm.scale, norm.relu)
    then = (turn.matrix, turn.cos, turn.sin, sign, turn.transposed)
    least = MIN_ENERGY if growth else None
    normed, turned, grown = prepared(x, heads, gain, taps, eps, scale, relu, *then, plain=keep, least=least)
    return Prepared(turned, normed, grown)


def prepare_heads_plain(
    x: Tensor, heads: int, norm: Norm | None, turn: Turn, *, keep: bool = False, growth: bool = False
) -> Prepared:
    """As :func:`prepare_heads`, step by step."""
    if norm is not None:
        x = norm_features(x, norm.gain, norm.eps, taps=norm.taps, relu=norm.relu, scale=norm.scale)
    normed = split_heads(x, heads)
    turned = turn.of(normed)
    kept = normed if keep else None
    if not growth:
        return Prepared(turned, kept, None)
    before, after = (head_energy(part).clamp_min(MIN_ENERGY) for part in (normed, turned))
    return Prepared(turned, kept, after / before)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B,T,S,C) -> (B,N,h,D)."""
    return x.flatten(1, 2).unflatten(-1, (heads, -1))
