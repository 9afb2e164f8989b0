"""Heads whose state grows without end, and how to quieten them.

A frame multiplies the state by g (I - K^T b K). The key scale (D S)^-1/2 keeps the eigenvalues of K^T b K small for
keys of the average size, but the key norm runs over all heads together and has a gain, so that one head can learn keys
that are too large. Where g (eigenvalue - 1) is above 1, its state grows from frame to frame. Over the length of a
training clip the division by the denominator hides that; over a minute it overflows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sana_wm.models.context import BlockContext
from sana_wm.models.frame_gdn import FrameGatedDeltaNet
from sana_wm.models.history import GdnMemory
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.ops.gated_delta import write_terms

logger = logging.getLogger(__name__)

LIMIT = 0.9
"""Largest growth that a head keeps."""
LOOKS, ROUNDS = 4, 4
"""How many batches tell which heads of a student grow, and how often what was changed is checked."""


class Growth:
    """What one frame makes of a head's state, over everything seen so far.

    Attributes:
        worst: (h,) largest growth g (eigenvalue - 1), by block and branch ("main", "camera").
        shrink: (h,) factor for the keys that brings it to `LIMIT`, at most 1.
        eigenvalue: largest eigenvalue of K^T b K over all heads, infinite where it is no number.
    """

    def __init__(self) -> None:
        self.worst: dict[tuple[int, str], Tensor] = {}
        self.shrink: dict[tuple[int, str], Tensor] = {}
        self.eigenvalue = 0.0

    def note(self, block: int, branch: str, keys: Tensor, beta: Tensor, decay: Tensor) -> None:
        """keys (B,h,T,S,D), beta (B,h,T,S), decay (B,h,T)."""
        with torch.autocast(keys.device.type, enabled=False):  # there are no eigenvalues in bfloat16
            erase, _ = write_terms(keys.float(), keys[..., :1].float(), beta.float())
        eigenvalues = largest_eigenvalue(erase)  # (B,h,T)
        self.eigenvalue = max(self.eigenvalue, float(eigenvalues.max()))
        growth = (decay * (eigenvalues - 1)).transpose(0, 1).flatten(1)
        # The keys' factor that would bring this frame to the limit: g (f^2 eigenvalue - 1) = limit.
        factor = ((LIMIT / decay + 1) / eigenvalues.clamp_min(1e-6)).sqrt().clamp(max=1).transpose(0, 1).flatten(1)
        at = (block, branch)
        self.worst[at] = torch.maximum(self.worst.get(at, torch.zeros_like(growth[:, 0])), growth.amax(1))
        self.shrink[at] = torch.minimum(self.shrink.get(at, torch.ones_like(factor[:, 0])), factor.amin(1))

    @property
    def largest(self) -> float:
        """Over all heads."""
        return max((float(w.max()) for w in self.worst.values()), default=0.0)


SQUARINGS = 8
"""2^8 steps of the power iteration at once."""


def largest_eigenvalue(matrices: Tensor) -> Tensor:
    """(...) of symmetric (...,D,D) without negative eigenvalues; infinite where a matrix is not finite.

    A matrix that is squared again and again keeps of itself what belongs to its largest eigenvalues; of these the
    result is a mean, never more than the largest and less by half a percent at the most. Libraries decompose small
    matrices on a GPU nearly one by one, and nobody wants the other eigenvalues.
    """
    finite = matrices.isfinite().flatten(-2).all(-1)
    matrices = torch.where(finite[..., None, None], matrices, 0.0)
    kept = matrices
    for _ in range(SQUARINGS):
        kept = kept / torch.linalg.matrix_norm(kept, keepdim=True).clamp_min(torch.finfo(kept.dtype).tiny)
        kept = kept @ kept
    weight = kept.square().sum((-2, -1)).clamp_min(torch.finfo(kept.dtype).tiny)
    found = ((matrices @ kept) * kept).sum((-2, -1)) / weight
    return torch.where(finite, found, torch.inf)


@contextmanager
def watch_growth(transformer: SanaWMTransformer) -> Iterator[Growth]:
    """Every pass through `transformer` while this is open is measured."""
    growth = Growth()

    def look(index: int, attention: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(attention, FrameGatedDeltaNet)
        u: Tensor = inputs[0]
        context: BlockContext = inputs[1]
        past: GdnMemory | None = inputs[2]
        with torch.no_grad():
            beta, decay = attention.gates(u)
            main = attention.main_features(u, context, past)
            growth.note(index, "main", main.k, beta, decay)
            growth.note(index, "main", main.k_rotated, beta, decay)
            if context.rays is not None:
                camera = attention.camera_writes(u, context, context.rays, beta, past)
                growth.note(index, "camera", camera.k, camera.beta, decay)

    handles = []
    for index, block in enumerate(transformer.blocks):
        attention = block.get_submodule("attn")
        if isinstance(attention, FrameGatedDeltaNet):
            handles.append(attention.register_forward_pre_hook(partial(look, index)))
    try:
        yield growth
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def steady(transformer: SanaWMTransformer, look: Callable[[int], object], looks: int, rounds: int) -> None:
    """Quieten heads, in place, until none grows in what `look`, asked 0 ... looks - 1, lets `transformer` see."""
    for _ in range(rounds):
        with watch_growth(transformer) as growth:
            for number in range(looks):
                look(number)
        touched = quieten(transformer, growth)
        logger.info("steady heads: growth up to %.2f, %s", growth.largest, touched)
        if not touched:
            return


@torch.no_grad()
def quieten(transformer: SanaWMTransformer, growth: Growth) -> list[tuple[int, str, int, float]]:
    """Scale down, in place, the key gains of every head that `growth` saw above the limit.

    Smaller keys change numerator and denominator alike; what changes is how much a frame erases.

    Returns:
        (block, branch, head, factor) of every head that was touched.
    """
    touched = []
    for (block, branch), factors in growth.shrink.items():
        attention = transformer.blocks[block].get_submodule("attn")
        norm = attention.get_submodule("k_norm" if branch == "main" else "k_norm_cam")
        gains = norm.get_parameter("weight").view(len(factors), -1)
        for head, factor in enumerate(factors.tolist()):
            if factor < 1:
                gains[head] *= factor
                touched.append((block, branch, head, factor))
    return touched
