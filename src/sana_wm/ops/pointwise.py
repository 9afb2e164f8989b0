"""What a block does to every token by itself, in one pass over memory each: residuals, norms, gates.

On a CUDA device without gradients the kernels of `pointwise_triton` run; everywhere else the plain lines do, which a
compiler fuses as well as they can be, and which are the reference. Shapes: tokens (B,T,S,C).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.dispatch import inference_kernels_take
from sana_wm.ops.norm import modulated_layer_norm


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm, then x * (1 + scale) + shift; shift and scale (B or 1, T or 1, 1, C)."""
    if inference_kernels_take(x):
        from sana_wm.ops.pointwise_triton import updated

        return updated(x, shift=shift, scale=scale)[1]
    return modulated_layer_norm(x, shift, scale).to(x.dtype)


def gated_residual(x: Tensor, gate: Tensor, branch: Tensor, plus: Tensor | None = None) -> Tensor:
    """x + gate * branch (+ plus); gate (B or 1, T or 1, 1, C)."""
    if inference_kernels_take(x):
        from sana_wm.ops.pointwise_triton import updated

        return updated(x, gate=gate, branch=branch, plus=plus)[0]
    x = x + gate * branch
    return x if plus is None else x + plus


def residual_modulate(x: Tensor, branch: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """x + branch, and that modulated."""
    if inference_kernels_take(x):
        from sana_wm.ops.pointwise_triton import updated

        return updated(x, branch=branch, shift=shift, scale=scale)
    x = x + branch
    return x, modulate(x, shift, scale)


def output_gate(mixed: Tensor, camera: Tensor | None, gate: Tensor) -> Tensor:
    """(mixed + camera) * SiLU(gate), the product in float32, in the dtype of the gate."""
    if inference_kernels_take(gate):
        from sana_wm.ops.pointwise_triton import gated

        return gated(mixed, camera, gate)
    if camera is not None:
        mixed = mixed + camera
    return (mixed.float() * F.silu(gate.float())).to(gate.dtype)
