"""The frame-wise gated delta rule (spec 10, sections 6 and 8), in plain PyTorch: the reference twin of every kernel.

A frame's S tokens write into the state together. With K (S, D), V (S, D), b = diag(beta):

    M_t = g_t (I - K_t^T b_t K_t) M_{t-1} + K_t^T b_t V_t

Shapes: B batch, h heads, T frames, S tokens a frame, D head width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

DENOMINATOR_EPS = 1e-8


class States(NamedTuple):
    """What frames may read: `forward` includes the frame itself, `backward` is everything after it without it."""

    forward: Tensor
    backward: Tensor

    def both(self) -> Tensor:
        """Reading is linear in the state, so one read of the sum serves both directions."""
        return self.forward + self.backward


def write_terms(k: Tensor, values: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """K^T b K (B,h,T,D,D) and K^T b V (B,h,T,D,Dv) from k (B,h,T,S,D), values (B,h,T,S,Dv), beta (B,h,T,S)."""
    if k.device.type == "cpu" and not torch.is_grad_enabled():
        # Frame by frame the heads of tokens are read where they lie; all frames at once would be copied together first.
        terms = [_frame_terms(*frame) for frame in zip(k.unbind(2), values.unbind(2), beta.unbind(2), strict=True)]
        return torch.stack([erase for erase, _ in terms], 2), torch.stack([write for _, write in terms], 2)
    return _frame_terms(k, values, beta)


def _frame_terms(k: Tensor, values: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`write_terms`, with any axes before those of tokens."""
    weighted = (k * beta[..., None]).mT
    return weighted @ k, weighted @ values


def scan(erase: Tensor, write: Tensor, decay: Tensor, initial: Tensor | None = None) -> Tensor:
    """All states of M_t = g_t (I - erase_t) M_{t-1} + write_t, in float32 (float64 stays).

    The transition is formed in float32; in bf16 the identity would swallow most of `erase`.

    Args:
        erase: (..., T, D, D); write: (..., T, D, Dv); decay: (..., T); any number of leading axes, also none.
        initial: (..., D, Dv), zero when None.

    Returns:
        (..., T, D, Dv).
    """
    with torch.autocast(erase.device.type, enabled=False):
        dtype = torch.promote_types(write.dtype, torch.float32)
        identity = torch.eye(erase.shape[-1], device=erase.device, dtype=dtype)
        transition = decay.to(dtype)[..., None, None] * (identity - erase.to(dtype))
        start = torch.zeros_like(write[..., 0, :, :], dtype=dtype) if initial is None else initial.to(dtype)
        states = affine_scan(_time_first(transition), _time_first(write.to(dtype)), start[None].flatten(0, -3))
        return states.unflatten(1, (1, *write.shape[:-3])).squeeze(1).movedim(0, -3)


def _time_first(x: Tensor) -> Tensor:
    """(..., T, D, Dv) -> (T, all leading axes together, D, Dv), contiguous."""
    return x[None].movedim(-3, 0).flatten(1, -3).contiguous()  # there may be no leading axis but this one


@torch.library.custom_op("sana_wm::affine_scan", mutates_args=())
def affine_scan(transition: Tensor, write: Tensor, initial: Tensor) -> Tensor:
    """X_t = transition_t X_{t-1} + write_t: one small batched product a frame.

    An operator of its own, because a compiler that looks inside unrolls the frames into hundreds of nearly equal
    kernels.

    Args:
        transition: (T, L, D, D); write: (T, L, D, Dv); initial: (L, D, Dv). Contiguous.

    Returns:
        (T, L, D, Dv).
    """
    states = torch.empty_like(write)
    state = initial
    for t in range(len(write)):
        state = torch.baddbmm(write[t], transition[t], state, out=states[t])
    return states


@affine_scan.register_fake
def _(transition: Tensor, write: Tensor, initial: Tensor) -> Tensor:
    return torch.empty_like(write)


def _save_for_adjoint(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    transition, _, initial = inputs
    ctx.save_for_backward(transition, initial, output)


def _adjoint(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same scan run backwards with transposed transitions: l_t = grad_t + transition_{t+1}^T l_{t+1}."""
    transition, initial, states = ctx.saved_tensors
    after = torch.cat([transition[1:], transition[:1]]).flip(0).mT.contiguous()  # the wrapped one meets a zero state
    adjoint = affine_scan(after, grad.flip(0).contiguous(), torch.zeros_like(initial)).flip(0)
    before = torch.cat([initial[None], states[:-1]])
    return adjoint @ before.mT, adjoint, transition[0].mT @ adjoint[0]


affine_scan.register_autograd(_adjoint, setup_context=_save_for_adjoint)


def bidirectional_scan(
    erase: Tensor, write: Tensor, decay: Tensor, keep: Tensor | None = None, initial: Tensor | None = None
) -> States:
    """Forward inclusive and backward exclusive states of the same recurrence, each (B,h,T,D,Dv).

    The backward state of frame t absorbs frames T-1 ... t+1, each with its own decay. A frame whose `keep` (B,T) is 0
    takes everything absorbed so far out of it, itself included: what comes before does not see it. `initial` (B,h,D,Dv)
    precedes the forward states.
    """
    time = -3
    back = decay if keep is None else decay * keep[:, None]
    back_write = write if keep is None else write * keep[:, None, :, None, None].to(write.dtype)
    start = torch.zeros_like(write[..., 0, :, :], dtype=torch.promote_types(write.dtype, torch.float32))
    streams = scan(
        torch.stack([erase, erase.flip(time)]),
        torch.stack([write, back_write.flip(time)]),
        torch.stack([decay, back.flip(-1)]),
        None if initial is None else torch.stack([initial.to(start.dtype), start]),
    )
    absorbed = streams[1].flip(time)  # frame t and everything after it
    backward = torch.cat([absorbed[:, :, 1:], torch.zeros_like(absorbed[:, :, :1])], dim=time)
    return States(streams[0], backward)


class FinalStates(NamedTuple):
    """What the forward recurrences leave behind: `state` (B,h,D,D) and, where there is a denominator, `z` (B,h,D,1)."""

    state: Tensor
    z: Tensor | None


def gated_delta_plain(
    q_rotated: Tensor,
    k_rotated: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    *,
    q: Tensor | None = None,
    k: Tensor | None = None,
    keep: Tensor | None = None,
    start: FinalStates | None = None,
) -> tuple[Tensor, FinalStates]:
    """q~^T (M + M'), and over q^T (z + z') where q and k are given (main branch; the camera branch has none).

    Args:
        q_rotated, k_rotated, v, q, k: (B,h,T,S,D); beta: (B,h,T,S); decay: (B,h,T).
        keep: (B,T), 0 at frames that no earlier frame sees, nor anything after them: the first ones of chunks.
        start: states before the first frame.

    Returns:
        (B,h,T,S,D), and the states after the last frame.
    """
    states = bidirectional_scan(*write_terms(k_rotated, v, beta), decay, keep, None if start is None else start.state)
    numerator = q_rotated @ states.both().to(q_rotated.dtype)
    if q is None or k is None:
        return numerator, FinalStates(states.forward[:, :, -1], None)
    below = write_terms(k, torch.ones_like(k[..., :1]), beta)
    z = bidirectional_scan(*below, decay, keep, None if start is None else start.z)
    # The sums of the denominator stay in float32: they are divided by.
    wide = z.forward.dtype
    out = numerator.to(wide) / (q.to(wide) @ z.both() + DENOMINATOR_EPS)
    return out, FinalStates(states.forward[:, :, -1], z.forward[:, :, -1])
