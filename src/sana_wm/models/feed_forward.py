"""The gated convolutional feed-forward network (spec 10, section 10)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.ops.depthwise_conv import glu_depthwise_conv
from sana_wm.ops.parts import by_frames
from sana_wm.ops.temporal_conv import chunked_temporal_residual, last_frames, temporal_residual


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution of tokens, whose channels come last, with the weights a checkpoint has for images."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.flatten(1), self.bias)


class ConvWeights(nn.Module):
    """A convolution under the name the checkpoints give it."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        kind = PointwiseConv if kernel == 1 else nn.Conv2d
        self.conv = kind(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=bias)


class TemporalConv(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return temporal_residual(x, self.weight)


class FeedForward(nn.Module):
    """Pointwise expansion, 3x3 depthwise in space, SiLU gate, pointwise back, then a residual mix of three frames."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_hidden
        self.inverted_conv = ConvWeights(width, 2 * hidden, 1)
        self.depth_conv = ConvWeights(2 * hidden, 2 * hidden, 3, groups=2 * hidden)
        self.point_conv = ConvWeights(hidden, width, 1, bias=False)
        self.t_conv = TemporalConv(width)

    def spatial(self, x: Tensor, height: int, width: int) -> Tensor:
        """Everything before the temporal convolution; (B, T, S, C) in and out."""
        return by_frames(lambda part: self._spatial(part, height, width), x)

    def _spatial(self, x: Tensor, height: int, width: int) -> Tensor:
        depth = self.depth_conv.conv
        assert depth.bias is not None
        # What is in the middle has no name, so that its memory is free again before the last product.
        expand = self.inverted_conv.conv
        mixed = glu_depthwise_conv(expand(x).flatten(0, 1), depth.weight, depth.bias, height, width)
        return self.point_conv.conv(mixed.unflatten(0, x.shape[:2]))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        return self.t_conv(self.spatial(x, height, width))

    def advance(self, x: Tensor, context: BlockContext, past: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """After the tail `past` (B,1,S,C); also the tail after what the call saves, None if that is nothing."""
        _, height, width = context.size
        saved = context.saved_frames
        if context.chunk is None and past is None and not saved:
            return self.forward(x, height, width), None
        mixed = self.spatial(x, height, width)
        tail = torch.zeros_like(mixed[:, :1]) if past is None else past
        out = chunked_temporal_residual(mixed, self.t_conv.weight, context.chunk, tail)
        return out, last_frames(mixed[:, :saved], tail) if saved else None
