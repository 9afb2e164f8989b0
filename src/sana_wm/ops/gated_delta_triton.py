"""The kernels of the frame-wise gated delta rule, forward and backward (spec 50, section 6).

Three phases, as the algebra has them. Over tokens, parallel in frames: what a frame writes (`_write_kernel`). Over
frames, one after another but parallel in heads, columns of the state and both directions: the states (`_scan_kernel`).
Over tokens again: what they read (`_read_kernel`). The backward mirrors them and recomputes the states from the inputs.

Products take operands of the inputs' dtype and accumulate in float32; states are float32. The write matrix P is kept in
the inputs' dtype and the identity is applied in float32, for I - P in bfloat16 would lose most of P (spec 10, G1).

Shapes: B batch, h heads, T frames, S tokens a frame, D head width; L = B*h.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent; see `depthwise_conv_triton`.

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_TOKENS = 64
SCAN_COLUMNS = 16
"""Columns of the state a program of the scan carries: few, so that there are many programs."""
READ_TOKENS = 256
"""Tokens a program of the read takes at most."""
NUM_WARPS = 8


class Operands(NamedTuple):
    """What frames write: keys and values (B,h,T,S,D), None for values of one (the denominator), and beta (B,h,T,S)."""

    k: Tensor
    v: Tensor | None
    beta: Tensor


@triton.jit
def _frame(pid, heads, T: tl.constexpr):
    """Batch, head, frame of a program that owns one frame of one head."""
    t = pid % T
    head = pid // T
    return (head // heads).to(tl.int64), (head % heads).to(tl.int64), t.to(tl.int64)


@triton.jit
def _write_kernel(
    k_ptr, v_ptr, beta_ptr, gram_ptr, write_ptr, heads,
    kb, kh, kt, ks, vb, vh, vt, vs, bb, bh, bt, bs,
    T: tl.constexpr, S: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, BS: tl.constexpr, ONES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """P = K^T b K and A = K^T b V of one frame of one head; with ONES, A = K^T b 1."""
    b, h, t = _frame(tl.program_id(0), heads, T)
    k_at, beta_at = k_ptr + b * kb + h * kh + t * kt, beta_ptr + b * bb + h * bh + t * bt
    v_at = v_ptr + b * vb + h * vh + t * vt
    d = tl.arange(0, BD)
    gram = tl.zeros([BD, BD], tl.float32)
    write = tl.zeros([BD, BD], tl.float32)
    total = tl.zeros([BD], tl.float32)
    for start in range(0, S, BS):
        s = start + tl.arange(0, BS)
        known = (s < S)[:, None] & (d < D)[None, :]
        k = tl.load(k_at + s[:, None] * ks + d[None, :], known, 0.0)
        beta = tl.load(beta_at + s * bs, s < S, 0.0).to(tl.float32)
        weighted = (k.to(tl.float32) * beta[:, None]).to(k.dtype)
        gram += tl.dot(tl.trans(weighted), k, input_precision=PRECISION)
        if ONES:
            total += tl.sum(k.to(tl.float32) * beta[:, None], 0)
        else:
            v = tl.load(v_at + s[:, None] * vs + d[None, :], known, 0.0)
            write += tl.dot(tl.trans(weighted), v, input_precision=PRECISION)
    pid = tl.program_id(0).to(tl.int64)
    both = (d < D)[:, None] & (d < D)[None, :]
    square = d[:, None] * D + d[None, :]
    tl.store(gram_ptr + pid * D * D + square, gram.to(gram_ptr.dtype.element_ty), both)
    if ONES:
        tl.store(write_ptr + pid * D + d, total, d < D)
    else:
        tl.store(write_ptr + pid * D * D + square, write, both)


@triton.jit
def _scan_kernel(
    gram_ptr, decay_ptr, keep_ptr, write_ptr, start_ptr, out_ptr, end_ptr, heads, streams,
    T: tl.constexpr, D: tl.constexpr, V: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr, ADJOINT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Both directions of X <- g (I - P) X + A over the frames, for BV of the V columns of X.

    Direction 0 goes with time and stores what a frame leaves, direction 1 goes against it and stores what comes after a
    frame, which a `keep` of 0 forgets. ADJOINT runs the transposed recurrences (P is symmetric), each against the
    direction of its own; A is then the gradient of the stored states. `end` gets what direction 0 leaves behind.
    """
    stream = tl.program_id(0).to(tl.int64)
    back = tl.program_id(2)
    d, c = tl.arange(0, BD), tl.program_id(1) * BV + tl.arange(0, BV)
    square = d[:, None] * D + tl.arange(0, BD)[None, :]
    inside = (d < D)[:, None] & (tl.arange(0, BD) < D)[None, :]
    columns, known = d[:, None] * V + c[None, :], (d < D)[:, None] & (c < V)[None, :]
    state = tl.load(start_ptr + stream * D * V + columns, known & (back == 0), 0.0)
    out_at = out_ptr + (back * streams + stream) * T * D * V
    against = back == 0 if ADJOINT else back == 1
    for i in range(T):
        t = tl.where(against, T - 1 - i, i).to(tl.int64)
        frame = stream * T + t
        gram = tl.load(gram_ptr + frame * D * D + square, inside, 0.0)
        write = tl.load(write_ptr + frame * D * V + columns, known, 0.0)
        decay = tl.load(decay_ptr + frame)
        keep = tl.load(keep_ptr + stream // heads * T + t)
        keep = tl.where(back == 1, keep, 1.0)
        if ADJOINT:
            state = tl.where(back == 1, state * keep, state + write)
            tl.store(out_at + t * D * V + columns, state, known)
            state = decay * (state - tl.dot(gram, state.to(gram.dtype), input_precision=PRECISION))
            state = tl.where(back == 1, state + write, state)
        else:
            new = decay * (state - tl.dot(gram, state.to(gram.dtype), input_precision=PRECISION)) + write
            tl.store(out_at + t * D * V + columns, tl.where(back == 1, state, new), known)
            state = keep * new
    tl.store(end_ptr + stream * D * V + columns, state, known & (back == 0))


@triton.jit
def _load_states(at, direction, offset, known):
    """The sum of both directions, which is all that tokens read."""
    return tl.load(at + offset, known, 0.0) + tl.load(at + direction + offset, known, 0.0)


@triton.jit
def _read_kernel(
    q_ptr, plain_ptr, states_ptr, z_ptr, out_ptr, heads, streams, eps,
    qb, qh, qt, qs, pb, ph, pt, ps, ob, oh, ot, os,
    T: tl.constexpr, S: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, BS: tl.constexpr, ROWS: tl.constexpr,
    DENOMINATOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """q^T (M + M'), over q^T (z + z') + eps with DENOMINATOR; ROWS tokens of one frame of one head."""
    b, h, t = _frame(tl.program_id(0), heads, T)
    d = tl.arange(0, BD)
    frame = tl.program_id(0).to(tl.int64)
    both = (d < D)[:, None] & (d < D)[None, :]
    frames = streams.to(tl.int64) * T
    states = _load_states(states_ptr + frame * D * D, frames * D * D, d[:, None] * D + d[None, :], both)
    q_at, out_at = q_ptr + b * qb + h * qh + t * qt, out_ptr + b * ob + h * oh + t * ot
    plain_at = plain_ptr + b * pb + h * ph + t * pt
    if DENOMINATOR:
        z = _load_states(z_ptr + frame * D, frames * D, d, d < D)
    for start in range(0, ROWS, BS):
        s = tl.program_id(1) * ROWS + start + tl.arange(0, BS)
        known = (s < S)[:, None] & (d < D)[None, :]
        q = tl.load(q_at + s[:, None] * qs + d[None, :], known, 0.0)
        out = tl.dot(q, states.to(q.dtype), input_precision=PRECISION)
        if DENOMINATOR:
            plain = tl.load(plain_at + s[:, None] * ps + d[None, :], known, 0.0).to(tl.float32)
            out = out / (tl.sum(plain * z[None, :], 1) + eps)[:, None]
        tl.store(out_at + s[:, None] * os + d[None, :], out.to(out_ptr.dtype.element_ty), known)


@triton.jit
def _read_grad_kernel(
    q_ptr, plain_ptr, states_ptr, z_ptr, out_ptr, grad_ptr, dq_ptr, dplain_ptr, dstates_ptr, dz_ptr,
    heads, streams, eps, qb, qh, qt, qs, pb, ph, pt, ps, ob, oh, ot, os, gb, gh, gt, gs,
    T: tl.constexpr, S: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, BS: tl.constexpr, DENOMINATOR: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of both queries, and of the states and z of the frame; dq and dplain lie as (B,T,S,h,D)."""
    b, h, t = _frame(tl.program_id(0), heads, T)
    d = tl.arange(0, BD)
    frame = tl.program_id(0).to(tl.int64)
    both = (d < D)[:, None] & (d < D)[None, :]
    square = d[:, None] * D + d[None, :]
    frames = streams.to(tl.int64) * T
    states = _load_states(states_ptr + frame * D * D, frames * D * D, square, both)
    q_at, grad_at = q_ptr + b * qb + h * qh + t * qt, grad_ptr + b * gb + h * gh + t * gt
    plain_at, out_at = plain_ptr + b * pb + h * ph + t * pt, out_ptr + b * ob + h * oh + t * ot
    place = ((b * T + t) * S * heads + h) * D
    if DENOMINATOR:
        z = _load_states(z_ptr + frame * D, frames * D, d, d < D)
    dstates = tl.zeros([BD, BD], tl.float32)
    dz = tl.zeros([BD], tl.float32)
    for start in range(0, S, BS):
        s = start + tl.arange(0, BS)
        known = (s < S)[:, None] & (d < D)[None, :]
        q = tl.load(q_at + s[:, None] * qs + d[None, :], known, 0.0)
        grad = tl.load(grad_at + s[:, None] * gs + d[None, :], known, 0.0).to(tl.float32)
        tokens = place + s[:, None].to(tl.int64) * heads * D + d[None, :]
        if DENOMINATOR:
            plain = tl.load(plain_at + s[:, None] * ps + d[None, :], known, 0.0).to(tl.float32)
            out = tl.load(out_at + s[:, None] * os + d[None, :], known, 0.0).to(tl.float32)
            inverse = 1.0 / (tl.sum(plain * z[None, :], 1) + eps)
            inverse = tl.where(s < S, inverse, 0.0)
            dbelow = -tl.sum(grad * out, 1) * inverse
            tl.store(dplain_ptr + tokens, (dbelow[:, None] * z[None, :]).to(dplain_ptr.dtype.element_ty), known)
            dz += tl.sum(plain * dbelow[:, None], 0)
            grad = grad * inverse[:, None]
        low = grad.to(q.dtype)
        dq = tl.dot(low, tl.trans(states.to(q.dtype)), input_precision=PRECISION)
        tl.store(dq_ptr + tokens, dq.to(dq_ptr.dtype.element_ty), known)
        dstates += tl.dot(tl.trans(q), low, input_precision=PRECISION)
    tl.store(dstates_ptr + frame * D * D + square, dstates, both)
    if DENOMINATOR:
        tl.store(dz_ptr + frame * D + d, dz, d < D)


@triton.jit
def _write_grad_kernel(
    k_ptr, v_ptr, beta_ptr, dgram_ptr, dwrite_ptr, dk_ptr, dv_ptr, dbeta_ptr, heads,
    kb, kh, kt, ks, vb, vh, vt, vs, bb, bh, bt, bs,
    T: tl.constexpr, S: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, BS: tl.constexpr, ONES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of k, v and beta from those of P, made symmetric, and of A; dk and dv lie as (B,T,S,h,D)."""
    b, h, t = _frame(tl.program_id(0), heads, T)
    d = tl.arange(0, BD)
    frame = tl.program_id(0).to(tl.int64)
    both = (d < D)[:, None] & (d < D)[None, :]
    square = d[:, None] * D + d[None, :]
    dgram = tl.load(dgram_ptr + frame * D * D + square, both, 0.0)
    if ONES:
        dtotal = tl.load(dwrite_ptr + frame * D + d, d < D, 0.0)
    else:
        dwrite = tl.load(dwrite_ptr + frame * D * D + square, both, 0.0)
    k_at, beta_at = k_ptr + b * kb + h * kh + t * kt, beta_ptr + b * bb + h * bh + t * bt
    v_at = v_ptr + b * vb + h * vh + t * vt
    place = ((b * T + t) * S * heads + h) * D
    for start in range(0, S, BS):
        s = start + tl.arange(0, BS)
        known = (s < S)[:, None] & (d < D)[None, :]
        tokens = place + s[:, None].to(tl.int64) * heads * D + d[None, :]
        k = tl.load(k_at + s[:, None] * ks + d[None, :], known, 0.0)
        beta = tl.load(beta_at + s * bs, s < S, 0.0).to(tl.float32)
        dk = tl.dot(k, dgram.to(k.dtype), input_precision=PRECISION)
        dbeta = 0.5 * tl.sum(dk * k.to(tl.float32), 1)
        if ONES:
            dk += dtotal[None, :]
            dbeta += tl.sum(k.to(tl.float32) * dtotal[None, :], 1)
        else:
            v = tl.load(v_at + s[:, None] * vs + d[None, :], known, 0.0)
            dv = tl.dot(k, dwrite.to(k.dtype), input_precision=PRECISION)
            dbeta += tl.sum(dv * v.to(tl.float32), 1)
            tl.store(dv_ptr + tokens, (dv * beta[:, None]).to(dv_ptr.dtype.element_ty), known)
            dk += tl.dot(v, tl.trans(dwrite.to(k.dtype)), input_precision=PRECISION)
        tl.store(dk_ptr + tokens, (dk * beta[:, None]).to(dk_ptr.dtype.element_ty), known)
        tl.store(dbeta_ptr + frame * S + s, dbeta, s < S)


def _width(D: int) -> int:
    """What a product needs at least and a power of two."""
    return max(16, triton.next_power_of_2(D))


def _precision(dtype: torch.dtype) -> str:
    return "ieee" if dtype == torch.float32 else "tf32"


def _tokens_like(x: Tensor) -> Tensor:
    """Empty (B,h,T,S,D) that lies in memory as (B,T,S,h,D), where the projections before and after want it."""
    B, h, T, S, D = x.shape
    return torch.empty(B, T, S, h, D, dtype=x.dtype, device=x.device).permute(0, 3, 1, 2, 4)


def _block_tokens(S: int, dtype: torch.dtype) -> int:
    """Tokens of a product: few in float32, whose tiles take twice the room."""
    most = BLOCK_TOKENS // 4 if dtype == torch.float32 else BLOCK_TOKENS
    return min(most, max(16, triton.next_power_of_2(S)))


def _stages(dtype: torch.dtype) -> int:
    """Tiles under way at once; in float32 there is room for one."""
    return 1 if dtype == torch.float32 else 3


def write_terms(x: Operands) -> tuple[Tensor, Tensor]:
    """P (L,T,D,D) in the dtype of k, and A (L,T,D,D), or (L,T,D,1) for values of one, float32."""
    B, h, T, S, D = x.k.shape
    ones = x.v is None
    gram = torch.empty(B * h, T, D, D, dtype=x.k.dtype, device=x.k.device)
    write = torch.empty(B * h, T, D, 1 if ones else D, dtype=torch.float32, device=x.k.device)
    v = x.k if x.v is None else x.v
    with torch.cuda.device_of(x.k):
        _write_kernel[(B * h * T,)](
            x.k, v, x.beta, gram, write, h, *x.k.stride()[:4], *v.stride()[:4], *x.beta.stride(),
            T=T, S=S, D=D, BD=_width(D), BS=_block_tokens(S, x.k.dtype), ONES=ones,
            PRECISION=_precision(x.k.dtype), num_warps=NUM_WARPS, num_stages=_stages(x.k.dtype),
        )  # fmt: skip
    return gram, write


def scan(
    gram: Tensor, decay: Tensor, keep: Tensor, write: Tensor, start: Tensor | None, *, adjoint: bool = False
) -> tuple[Tensor, Tensor]:
    """States (2,L,T,D,V) of both directions and the end (L,D,V) of the first; see `_scan_kernel`.

    decay: (B,h,T); keep: (B,T); start: (L,D,V), zero when None.
    """
    L, T, D, V = write.shape
    heads = decay.shape[1]
    out = torch.empty(2, L, T, D, V, device=write.device)
    end = torch.empty(L, D, V, device=write.device)
    start = torch.zeros_like(end) if start is None else start.float().contiguous()
    with torch.cuda.device_of(write):
        _scan_kernel[(L, triton.cdiv(V, SCAN_COLUMNS), 2)](
            gram, decay.float().contiguous(), keep.float().contiguous(), write.contiguous(), start, out, end, heads, L,
            T=T, D=D, V=V, BD=_width(D), BV=SCAN_COLUMNS, ADJOINT=adjoint, PRECISION=_precision(gram.dtype),
            num_warps=4, num_stages=_stages(gram.dtype),
        )  # fmt: skip
    return out, end


def read(q: Tensor, states: Tensor, plain: Tensor | None, z: Tensor | None, eps: float) -> Tensor:
    """(B,h,T,S,D), lying as (B,T,S,h,D), in the dtype of q."""
    B, h, T, S, D = q.shape
    out = _tokens_like(q)
    below = q if plain is None else plain
    block = _block_tokens(S, q.dtype)
    rows = min(READ_TOKENS, triton.cdiv(S, block) * block)
    with torch.cuda.device_of(q):
        _read_kernel[(B * h * T, triton.cdiv(S, rows))](
            q, below, states, states if z is None else z, out, h, B * h, eps,
            *q.stride()[:4], *below.stride()[:4], *out.stride()[:4],
            T=T, S=S, D=D, BD=_width(D), BS=block, ROWS=rows, DENOMINATOR=plain is not None,
            PRECISION=_precision(q.dtype), num_warps=NUM_WARPS, num_stages=_stages(q.dtype),
        )  # fmt: skip
    return out


def read_grads(
    q: Tensor, states: Tensor, plain: Tensor | None, z: Tensor | None, out: Tensor, grad: Tensor, eps: float
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Gradients of q, plain (both (B,h,T,S,D)), of the summed states (L,T,D,D) and of the summed z (L,T,D,1)."""
    B, h, T, S, D = q.shape
    below = q if plain is None else plain
    dq, dplain = _tokens_like(q), None if plain is None else _tokens_like(plain)
    dstates = torch.empty(B * h, T, D, D, device=q.device)
    dz = None if plain is None else torch.empty(B * h, T, D, 1, device=q.device)
    with torch.cuda.device_of(q):
        _read_grad_kernel[(B * h * T,)](
            q, below, states, states if z is None else z, out, grad, dq, dq if dplain is None else dplain, dstates,
            dstates if dz is None else dz, h, B * h, eps,
            *q.stride()[:4], *below.stride()[:4], *out.stride()[:4], *grad.stride()[:4],
            T=T, S=S, D=D, BD=_width(D), BS=_block_tokens(S, q.dtype), DENOMINATOR=plain is not None,
            PRECISION=_precision(q.dtype), num_warps=NUM_WARPS, num_stages=1,
        )  # fmt: skip
    return dq, dplain, dstates, dz


def write_grads(x: Operands, dgram: Tensor, dwrite: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Gradients of k, v (B,h,T,S,D) and beta (B,h,T,S) from those of P (L,T,D,D), made symmetric, and of A."""
    B, h, T, S, D = x.k.shape
    v = x.k if x.v is None else x.v
    dk, dv = _tokens_like(x.k), None if x.v is None else _tokens_like(x.v)
    dbeta = torch.empty(B, h, T, S, device=x.k.device)
    with torch.cuda.device_of(x.k):
        _write_grad_kernel[(B * h * T,)](
            x.k, v, x.beta, dgram.contiguous(), dwrite.contiguous(), dk, dk if dv is None else dv, dbeta, h,
            *x.k.stride()[:4], *v.stride()[:4], *x.beta.stride(),
            T=T, S=S, D=D, BD=_width(D), BS=_block_tokens(S, x.k.dtype), ONES=x.v is None,
            PRECISION=_precision(x.k.dtype), num_warps=NUM_WARPS, num_stages=1,
        )  # fmt: skip
    return dk, dv, dbeta


class ScanGrads(NamedTuple):
    """Gradients of P, made symmetric, and of A (both (L,T,D,.)), of the decay (B,h,T) and of the start (L,D,V)."""

    gram: Tensor
    write: Tensor
    decay: Tensor
    start: Tensor


def scan_grads(
    gram: Tensor, decay: Tensor, keep: Tensor, states: Tensor, start: Tensor | None, dstates: Tensor, dend: Tensor
) -> ScanGrads:
    """What `scan` was given, its states, and the gradients of their sum and of the end; spec 50, section 6.3."""
    adjoint, dstart = scan(gram, decay, keep, dstates, dend, adjoint=True)
    first = torch.zeros_like(states[0, :, :1]) if start is None else start.float()[:, None]
    came = torch.cat([first, states[0, :, :-1]], 1), states[1]  # what each update was given
    g = decay.float().flatten(0, 1)
    dgram, ddecay = torch.zeros_like(gram, dtype=torch.float32), torch.zeros_like(g)
    for before, after in zip(came, adjoint, strict=True):
        dgram -= after @ before.mT
        ddecay += ((before - gram.float() @ before) * after).sum((-1, -2))
    dgram *= g[..., None, None]
    return ScanGrads(dgram + dgram.mT, adjoint[0] + adjoint[1], ddecay.view_as(decay), dstart)
