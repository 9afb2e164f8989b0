"""What the two kinds of self-attention share: projections, the camera branch's weights, and how both branches are
combined (spec 10, sections 2.2 and 9)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.embeddings import RMSNorm
from sana_wm.ops.pointwise import output_gate

QK_NORM_EPS = 1e-5


class DualBranchAttention(nn.Module, ABC):
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
    def branches(self, u: Tensor, context: BlockContext) -> tuple[Tensor, Tensor | None]:
        """What both branches read, (B, T, S, width) each; no camera branch without `context.rays`."""

    def forward(self, u: Tensor, context: BlockContext) -> Tensor:
        """u: modulated tokens (B, T, S, width)."""
        mixed, camera = self.branches(u, context)
        if camera is not None:
            camera = self.out_proj_cam(camera.to(u.dtype))
        return self.proj(output_gate(mixed, camera, self.output_gate(u)).to(u.dtype))
