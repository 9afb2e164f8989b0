"""From a projection to what tokens mix: filter along time, norm, ReLU, scale, heads, turn, move (spec 10, 6 to 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

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
    """Heads (B,N,h,D) as they are normed, and turned."""

    normed: Tensor
    turned: Tensor


def prepare_heads(x: Tensor, heads: int, norm: Norm | None, turn: Turn) -> Prepared:
    """x: (B,T,S,C)."""
    if norm is not None:
        x = norm_features(x, norm.gain, norm.eps, taps=norm.taps, relu=norm.relu, scale=norm.scale)
    normed = split_heads(x, heads)
    return Prepared(normed, turn.of(normed))


def energy_growth(heads: Prepared) -> Tensor:
    """(B,N,h) growth of the energy of heads by turning."""
    before, after = (head_energy(x).clamp_min(MIN_ENERGY) for x in heads)
    return after / before


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B,T,S,C) -> (B,N,h,D)."""
    return x.flatten(1, 2).unflatten(-1, (heads, -1))
