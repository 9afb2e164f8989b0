"""Muon: momentum whose matrices are orthogonalised, so that every direction of a weight matrix moves alike.

PyTorch's own Muon takes two-dimensional parameters one by one. Most weights here are stored as convolutions, and a
small model has a hundred small matrices; this one reads a convolution as a matrix and orthogonalises all matrices of
one shape together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
MATCHED_RMS = 0.2
"""Root mean square of an update at rate 1: about that of AdamW, so that both share one learning rate."""
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd quintic whose iteration drives all singular values towards 1 (Jordan 2024)."""


def hidden_matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of the layers that a model repeats: everything named ``weight`` inside a ``ModuleList`` that maps more
    than one channel, convolutions included.

    Embeddings, first and last layers, depthwise filters, gains and biases are not among them.
    """
    lists = [f"{name}." for name, part in module.named_modules() if isinstance(part, nn.ModuleList)]
    return {
        name: p
        for name, p in module.named_parameters()
        if name.endswith(".weight") and p.ndim > 1 and p.shape[1] > 1 and any(name.startswith(x) for x in lists)
    }


def orthogonalise(matrices: Tensor) -> Tensor:
    """(G, R, C) -> the same with all singular values near 1, in bfloat16 on a GPU and float32 elsewhere.

    Source: Newton-Schulz iteration of Jordan et al., "Muon" (2024).
    """
    x = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (torch.linalg.matrix_norm(x.float(), keepdim=True) + 1e-7).to(x.dtype)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon:
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    Args:
        parameters: by name; of two axes or more, all after the first read as one.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], weight_decay: float) -> None:
        self.parameters = dict(parameters)
        self.weight_decay = weight_decay
        self.momentum = {name: torch.zeros_like(p) for name, p in self.parameters.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update all parameters that have a gradient."""
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name, p in self.parameters.items():
            if p.grad is not None:
                by_shape.setdefault((p.shape[0], p[0].numel()), []).append(name)
        for (rows, columns), names in by_shape.items():
            weights: list[Tensor] = [self.parameters[name] for name in names]
            grads = [p.grad for p in weights if p.grad is not None]
            momenta = [self.momentum[name] for name in names]
            torch._foreach_lerp_(momenta, grads, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(grads, momenta, MOMENTUM)
            updates = orthogonalise(torch.stack([x.flatten(1) for x in ahead]))
            scale = -lr * MATCHED_RMS * max(rows, columns) ** 0.5
            torch._foreach_mul_(weights, 1 - lr * self.weight_decay)
            shaped = [update.view(p.shape).to(p.dtype) for update, p in zip(updates.contiguous(), weights, strict=True)]
            torch._foreach_add_(weights, shaped, alpha=scale)
