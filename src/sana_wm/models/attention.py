"""What the two kinds of self-attention share: projections, the camera branch's weights, and how both branches are
combined (spec 10, sections 2.2 and 9)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.embeddings import RMSNorm
from sana_wm.ops.parts import by_frames
from sana_wm.ops.pointwise import output_gate

QK_NORM_EPS = 1e-5

Memory = TypeVar("Memory")


@dataclass(frozen=True)
class Branches(Generic[Memory]):
    """What the main and the camera branch read, (B, T, S, width) each, the latter None without `context.rays`; and the
    memory after what the call saves, None if that is nothing."""

    main: Tensor
    camera: Tensor | None
    memory: Memory | None


class DualBranchAttention(nn.Module, ABC, Generic[Memory]):
    """Main branch plus camera branch, gated and projected. Subclasses say how each branch mixes tokens.

    Tokens come and go as (B, T, S, width); heads are split as (B, N, h, D).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RMSNorm(width, QK_NORM_EPS)
        self.k_norm = RMSNorm(width, QK_NORM_EPS)
        self.proj = nn.Linear(width, width)
        self.output_gate = nn.Linear(width, width)
        self.q_proj_cam = nn.Linear(width, width)
        self.k_proj_cam = nn.Linear(width, width)
        self.v_proj_cam = nn.Linear(width, width)
        self.out_proj_cam = nn.Linear(width, width)
        self.q_norm_cam = RMSNorm(width, QK_NORM_EPS)
        self.k_norm_cam = RMSNorm(width, QK_NORM_EPS)

    @abstractmethod
    def branches(self, u: Tensor, context: BlockContext, past: Memory | None = None) -> Branches[Memory]:
        """What both branches read, given what was remembered of earlier calls."""

    def forward(self, u: Tensor, context: BlockContext, past: Memory | None = None) -> tuple[Tensor, Memory | None]:
        """u: modulated tokens (B, T, S, width). Also what is to be remembered, if the call saves anything."""
        read = self.branches(u, context, past)
        camera = () if read.camera is None else (read.camera,)
        return by_frames(self._combined, u, read.main, *camera), read.memory

    def _combined(self, u: Tensor, main: Tensor, camera: Tensor | None = None) -> Tensor:
        moved = None if camera is None else self.out_proj_cam(camera.to(u.dtype))
        return self.proj(output_gate(main, moved, self.output_gate(u)).to(u.dtype))
