"""The frame-wise gated delta rule (spec 10, sections 6 and 8), in plain PyTorch: the reference twin of every kernel.

A frame's S tokens write into the state together. With K (S, D), V (S, D), b = diag(beta):

    M_t = g_t (I - K_t^T b_t K_t) M_{t-1} + K_t^T b_t V_t

Shapes: B batch, h heads, T frames, S tokens a frame, D head width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DENOMINATOR_EPS = 1e-8


class States(NamedTuple):
    """What frames may read: `forward` includes the frame itself, `backward` everything after it and not the frame itself."""

    forward: Tensor
    backward: Tensor

    def both(self) -> Tensor:
        """Reading is linear in the state, so one read of the sum serves both directions."""
        return self.forward + self.backward


def write_terms(k: Tensor, values: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """K^T b K (B,h,T,D,D) and K^T b V (B,h,T,D,Dv) from k (B,h,T,S,D), values (B,h,T,S,Dv), beta (B,h,T,S)."""
    weighted = (k * beta[..., None]).mT
    return weighted @ k, weighted @ values


def scan(erase: Tensor, write: Tensor, decay: Tensor, initial: Tensor | None = None) -> Tensor:
    """All states of M_t = g_t (M_{t-1} - erase_t M_{t-1}) + write_t, float32.

    The identity is applied to M itself rather than stored inside the transition, where bf16 would lose most of `erase`.

    Args:
        erase: (..., T, D, D); write: (..., T, D, Dv); decay: (..., T).
        initial: (..., D, Dv), zero when None.

    Returns:
        (..., T, D, Dv).
    """
    with torch.autocast(erase.device.type, enabled=False):
        erase, write, decay = erase.float(), write.float(), decay.float()[..., None, None]
        state = torch.zeros_like(write[..., 0, :, :]) if initial is None else initial.float()
        states = []
        for e, w, g in zip(erase.unbind(-3), write.unbind(-3), decay.unbind(-3), strict=True):
            state = g * (state - e @ state) + w
            states.append(state)
        return torch.stack(states, dim=-3)


def bidirectional_scan(erase: Tensor, write: Tensor, decay: Tensor) -> States:
    """Forward inclusive and backward exclusive states of the same recurrence, each (B,h,T,D,Dv).

    The backward state of frame t absorbs frames T-1 ... t+1, each with its own decay.
    """
    time = -3
    streams = scan(
        torch.stack([erase, erase.flip(time)]),
        torch.stack([write, write.flip(time)]),
        torch.stack([decay, decay.flip(-1)]),
    )
    absorbed = streams[1].flip(time)  # frame t and everything after it
    backward = torch.cat([absorbed[:, :, 1:], torch.zeros_like(absorbed[:, :, :1])], dim=time)
    return States(streams[0], backward)


def gated_delta_numerator(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """Camera branch: q^T (M + M'), no denominator. q, k, v (B,h,T,S,D); beta (B,h,T,S); decay (B,h,T)."""
    states = bidirectional_scan(*write_terms(k, v, beta), decay)
    return q @ states.both().to(q.dtype)


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, q_rotated: Tensor, k_rotated: Tensor, beta: Tensor, decay: Tensor
) -> Tensor:
    """Main branch: rotated numerator over unrotated denominator, one shared division; (B,h,T,S,D)."""
    numerator = gated_delta_numerator(q_rotated, k_rotated, v, beta, decay)
    ones = torch.ones_like(k[..., :1])
    z = bidirectional_scan(*write_terms(k, ones, beta), decay).both()
    denominator = q.float() @ z
    return numerator.float() / (denominator + DENOMINATOR_EPS)
