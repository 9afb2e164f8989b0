"""The frame-wise gated delta rule by the kernels of `gated_delta_triton`, as operators for autograd and compilers.

:func:`gated_delta` decides by device and number format who computes, and :func:`backend` says who that is.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from sana_wm.ops.dispatch import kernels_take
from sana_wm.ops.gated_delta import DENOMINATOR_EPS, FinalStates, gated_delta_plain

LARGEST_HEAD = 128


def backend(q: Tensor) -> Literal["triton", "plain"]:
    """Who computes for queries like this one (B,h,T,S,D)."""
    return "triton" if kernels_take(q) and q.shape[-1] <= LARGEST_HEAD else "plain"


def gated_delta(
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
    """As :func:`~sana_wm.ops.gated_delta.gated_delta_plain`, by the fastest means there are.

    The kernels multiply in the dtype of v, to which queries and keys are cast; the result has it too.
    """
    if backend(v) == "plain":
        v = v.to(q_rotated.dtype)
        return gated_delta_plain(q_rotated, k_rotated, v, beta, decay, q=q, k=k, keep=keep, start=start)
    q_rotated, k_rotated = q_rotated.to(v.dtype), k_rotated.to(v.dtype)
    q, k = (None if x is None else x.to(v.dtype) for x in (q, k))
    keep = torch.ones(v.shape[0], v.shape[2], device=v.device) if keep is None else keep
    state, z = (None, None) if start is None else (start.state, start.z)
    given = (q_rotated, k_rotated, v, q, k, beta, decay, keep, state, z)
    out, state, z = fused_gated_delta(*(None if x is None else _rows(x) for x in given))
    return out, FinalStates(state, z if k is not None else None)


def _rows(x: Tensor) -> Tensor:
    """The kernels take any strides but that of the last axis."""
    return x if x.stride(-1) == 1 or x.ndim < 5 else x.contiguous()


@torch.library.custom_op("sana_wm::gated_delta", mutates_args=())
def fused_gated_delta(
    q_rotated: Tensor,
    k_rotated: Tensor,
    v: Tensor,
    q: Tensor | None,
    k: Tensor | None,
    beta: Tensor,
    decay: Tensor,
    keep: Tensor,
    start: Tensor | None,
    start_z: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result (B,h,T,S,D), the final state (B,h,D,D) and the final z (B,h,D,1), empty without q and k."""
    from sana_wm.ops.gated_delta_triton import read

    states, end, z, end_z = _states(k_rotated, v, k, beta, decay, keep, start, start_z)
    out = read(q_rotated, states[0], q, None if z is None else z[0], DENOMINATOR_EPS)
    B, h = decay.shape[:2]
    final_z = end.new_empty(0) if end_z is None else end_z.unflatten(0, (B, h))
    return out, end.unflatten(0, (B, h)), final_z


def _states(
    k_rotated: Tensor,
    v: Tensor,
    k: Tensor | None,
    beta: Tensor,
    decay: Tensor,
    keep: Tensor,
    start: Tensor | None,
    start_z: Tensor | None,
) -> tuple[tuple[Tensor, Tensor], Tensor, tuple[Tensor, Tensor] | None, Tensor | None]:
    """((states, P), end, (z, P of z), end of z)."""
    from sana_wm.ops.gated_delta_triton import Operands, scan, write_terms

    gram, write = write_terms(Operands(k_rotated, v, beta))
    states, end = scan(gram, decay, keep, write, None if start is None else start.flatten(0, 1))
    if k is None:
        return (states, gram), end, None, None
    gram_z, write_z = write_terms(Operands(k, None, beta))
    z, end_z = scan(gram_z, decay, keep, write_z, None if start_z is None else start_z.flatten(0, 1))
    return (states, gram), end, (z, gram_z), end_z


@fused_gated_delta.register_fake
def _(
    q_rotated: Tensor,
    k_rotated: Tensor,
    v: Tensor,
    q: Tensor | None,
    k: Tensor | None,
    beta: Tensor,
    decay: Tensor,
    keep: Tensor,
    start: Tensor | None,
    start_z: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    B, h, T, S, D = q_rotated.shape
    out = q_rotated.new_empty(B, T, S, h, D).permute(0, 3, 1, 2, 4)
    end = torch.empty(B, h, D, D, device=v.device)
    return out, end, end.new_empty(0) if k is None else end.new_empty(B, h, D, 1)


@torch.library.custom_op("sana_wm::gated_delta_grad", mutates_args=())
def fused_gated_delta_grad(
    grad: Tensor,
    grad_end: Tensor,
    grad_end_z: Tensor,
    out: Tensor,
    q_rotated: Tensor,
    k_rotated: Tensor,
    v: Tensor,
    q: Tensor | None,
    k: Tensor | None,
    beta: Tensor,
    decay: Tensor,
    keep: Tensor,
    start: Tensor | None,
    start_z: Tensor | None,
) -> list[Tensor]:
    """Gradients of q_rotated, k_rotated, v, beta, decay, start; then, with q and k, of these and start_z."""
    from sana_wm.ops.gated_delta_triton import Operands, read_grads, scan_grads, write_grads

    shape = decay.shape[:2]
    begin = None if start is None else start.flatten(0, 1)
    states, _, below, _ = _states(k_rotated, v, k, beta, decay, keep, start, start_z)
    z = None if below is None else below[0]
    dq_rotated, dq, dstates, dz = read_grads(q_rotated, states[0], q, z, out, grad, DENOMINATOR_EPS)
    main = Operands(k_rotated, v, beta)
    scanned = scan_grads(states[1], decay, keep, states[0], begin, dstates, grad_end.flatten(0, 1))
    dk_rotated, dv, dbeta = write_grads(main, scanned.gram, scanned.write)
    assert dv is not None
    ddecay = scanned.decay
    if below is None or k is None:
        return [dq_rotated, dk_rotated, dv, dbeta, ddecay, scanned.start.unflatten(0, shape)]
    assert dz is not None
    assert dq is not None
    begin_z = None if start_z is None else start_z.flatten(0, 1)
    scanned_z = scan_grads(below[1], decay, keep, below[0], begin_z, dz, grad_end_z.flatten(0, 1))
    dk, _, dbeta_z = write_grads(Operands(k, None, beta), scanned_z.gram, scanned_z.write)
    starts = (scanned.start.unflatten(0, shape), scanned_z.start.unflatten(0, shape))
    return [dq_rotated, dk_rotated, dv, dbeta + dbeta_z, ddecay + scanned_z.decay, starts[0], dq, dk, starts[1]]


@fused_gated_delta_grad.register_fake
def _(
    grad: Tensor,
    grad_end: Tensor,
    grad_end_z: Tensor,
    out: Tensor,
    q_rotated: Tensor,
    k_rotated: Tensor,
    v: Tensor,
    q: Tensor | None,
    k: Tensor | None,
    beta: Tensor,
    decay: Tensor,
    keep: Tensor,
    start: Tensor | None,
    start_z: Tensor | None,
) -> list[Tensor]:
    B, h, T, S, D = v.shape

    def tokens() -> Tensor:
        return v.new_empty(B, T, S, h, D).permute(0, 3, 1, 2, 4)

    def numbers(*size: int) -> Tensor:
        return torch.empty(size, device=v.device)

    grads = [tokens(), tokens(), tokens(), numbers(B, h, T, S), numbers(B, h, T), numbers(B, h, D, D)]
    return grads if k is None else [*grads, tokens(), tokens(), numbers(B, h, D, 1)]


def _save_for_backward(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[0])


def _backward(ctx: Any, grad: Tensor, grad_end: Tensor, grad_end_z: Tensor) -> tuple[Tensor | None, ...]:
    *given, out = ctx.saved_tensors
    beta, decay, start, start_z = given[5], given[6], given[8], given[9]
    grad = grad if grad.stride(-1) == 1 else grad.contiguous()
    found = fused_gated_delta_grad(grad, grad_end.float(), grad_end_z.float(), out, *given)
    dq_rotated, dk_rotated, dv, dbeta, ddecay, dstart, *below = found
    dq, dk, dstart_z = below if below else (None, None, None)
    return (
        dq_rotated, dk_rotated, dv, dq, dk, dbeta.to(beta.dtype), ddecay.to(decay.dtype), None,
        None if start is None else dstart.to(start.dtype),
        None if start_z is None or dstart_z is None else dstart_z.to(start_z.dtype),
    )  # fmt: skip


fused_gated_delta.register_autograd(_backward, setup_context=_save_for_backward)
