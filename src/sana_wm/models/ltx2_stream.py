"""The LTX-2 decoder chunk by chunk, with what its convolutions remember handed in and out (spec 41, section 5).

diffusers' decoder takes a whole video and has no way to be given a past. So this walks through the layers of its
`LTX2VideoDecoder3d` itself, with the same weights; only the two things that look across frames are written here: what
a causal convolution sees before its first frame, and the frame an upsampler drops at the beginning of a video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.ops.causal_pad import causal_pad
from sana_wm.ops.dispatch import inference_kernels_take


class Sum(NamedTuple):
    """x + branch (B,C,n,h,w) + bias (C,), which whatever reads it next takes on the way."""

    x: Tensor
    branch: Tensor | None = None
    bias: Tensor | None = None


class Carry:
    """The last frames each convolution saw, in order of execution; one goes through the decoder once.

    tails: those of the chunk before, (B,C,2,h,w) each; empty at the beginning of a video.
    """

    def __init__(self, tails: Sequence[Tensor]) -> None:
        self.begins = not tails
        self._before = iter(tails)
        self.tails: list[Tensor] = []

    def pad(self, x: Sum, norm: Any = None) -> Tensor:
        """What the next convolution reads, (B,C,n+2,h+2,w+2); with a norm its SiLU."""
        return self._pad(x, norm, want_sum=False)[0]

    def pad_and_sum(self, x: Sum, norm: Any = None) -> tuple[Tensor, Tensor]:
        """The same, and x in one."""
        made, total = self._pad(x, norm, want_sum=True)
        assert total is not None
        return made, total

    def _pad(self, x: Sum, norm: Any, *, want_sum: bool) -> tuple[Tensor, Tensor | None]:
        before = None if self.begins else next(self._before)
        eps = None if norm is None else norm.eps
        made, tail, total = causal_pad(x.x, before, branch=x.branch, bias=x.bias, norm_eps=eps, want_sum=want_sum)
        self.tails.append(tail)
        return made, total


def check_streams(decoder: Any) -> None:
    """Refuse an `LTX2VideoDecoder3d` that sees later frames, or has layers that the streaming LTX-2 decoder has not.

    Raises:
        InputError: it is such a decoder.
    """
    if not decoder.is_causal:
        raise InputError(
            "the codec's decoder looks at later frames (decoder_causal is false), so it cannot decode a video while it "
            "is being made; take a model whose codec decodes causally."
        )
    unknown = [name for name in ("time_embedder", "scale_shift_table") if getattr(decoder, name) is not None]
    for block in _resnets(decoder):
        optional = ("per_channel_scale1", "per_channel_scale2", "scale_shift_table", "norm3", "conv_shortcut")
        unknown += [name for name in optional if getattr(block, name) is not None]
    modes = {layer.padding_mode for layer in decoder.modules() if isinstance(layer, nn.Conv3d)}
    unknown += [f"convolutions padded with {mode}" for mode in modes - {"reflect"}]
    if unknown or any(block.upsamplers is None for block in decoder.up_blocks):
        what = unknown[0] if unknown else "a level without upsampling"
        raise InputError(f"the codec's decoder has {what}, which the streaming decoder does not know.")


def decode_chunk(decoder: Any, z: Tensor, tails: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Pixels of the next latents z (B,C,n,h,w) of a video, and the tails after them.

    Returns (B,3,8n,32h,32w), at the beginning of a video 8(n-1)+1 frames.
    """
    carry = Carry(tails)
    x = _conv(decoder.conv_in, carry.pad(Sum(z)))
    for block in decoder.mid_block.resnets:
        x = _resnet(block, x, carry)
    for level in decoder.up_blocks:
        x = Sum(_upsample(level.upsamplers[0], x, carry))
        for block in level.resnets:
            x = _resnet(block, x, carry)
    last = decoder.conv_out.conv
    made = F.conv3d(carry.pad(x, decoder.norm_out), last.weight, last.bias)
    patch = decoder.patch_size  # the horizontal phase is the slower one
    made = made.unflatten(1, (-1, patch, patch)).permute(0, 1, 4, 5, 3, 6, 2)
    return made.flatten(5, 6).flatten(3, 4), tuple(carry.tails)


def _resnets(decoder: Any) -> list[Any]:
    return [*decoder.mid_block.resnets, *(block for level in decoder.up_blocks for block in level.resnets)]


def _conv(layer: Any, padded: Tensor) -> Sum:
    conv = layer.conv
    if inference_kernels_take(padded):  # to the library a bias is one more pass; the next padding has it for nothing
        return Sum(F.conv3d(padded, conv.weight), bias=conv.bias)
    return Sum(F.conv3d(padded, conv.weight, conv.bias))


def _resnet(block: Any, x: Sum, carry: Carry) -> Sum:
    padded, total = carry.pad_and_sum(x, block.norm1)
    hidden = _conv(block.conv1, padded)
    del padded
    made = _conv(block.conv2, carry.pad(hidden, block.norm2))
    return Sum(total, made.x, made.bias)


def _upsample(layer: Any, x: Sum, carry: Carry) -> Tensor:
    """More frames, rows and columns out of channels, beside the input's own channels spread and repeated."""
    padded, total = carry.pad_and_sum(x)
    conv = layer.conv.conv
    if inference_kernels_take(padded) and layer.residual:
        made = _spread_channels_last(conv, padded, total, layer.stride)
    else:
        made = _from_channels(F.conv3d(padded, conv.weight, conv.bias), layer.stride)
        if layer.residual:
            spread = _from_channels(total, layer.stride)
            made = made + spread.repeat(1, made.shape[1] // spread.shape[1], 1, 1, 1)
    return made[:, :, layer.stride[0] - 1 :] if carry.begins else made


def _spread_channels_last(conv: Any, padded: Tensor, x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """The convolution and x (B,c,n,h,w), both spread, added in one pass; the result has channels last in memory.

    The convolution is made to give what becomes one pixel side by side, for which its weights change places. They do so
    in every call, as the library brings those of the others into its order: kept, they would take as much memory again,
    and changed in place, they would be slower in diffusers' decoder.
    """
    (b, _, n, h, w), (st, sh, sw), count = x.shape, stride, math.prod(stride)
    few = x.shape[1] // count
    weight = conv.weight.unflatten(0, (-1, count)).permute(1, 0, 3, 4, 5, 2).flatten(0, 1).permute(0, 4, 1, 2, 3)
    bias = conv.bias.view(-1, count).t().flatten()
    made = F.conv3d(padded, weight, bias).permute(0, 2, 3, 4, 1).unflatten(-1, (*stride, -1, few))
    spread = x.permute(0, 2, 3, 4, 1).unflatten(-1, (few, *stride)).permute(0, 1, 2, 3, 5, 6, 7, 4).unsqueeze(-2)
    out = made.new_empty(b, n, st, h, sh, w, sw, made.shape[-2], few)
    torch.add(made, spread, out=out.permute(0, 1, 3, 5, 2, 4, 6, 7, 8))
    return out.flatten(7, 8).flatten(5, 6).flatten(3, 4).flatten(1, 2).permute(0, 4, 1, 2, 3)


def _from_channels(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """(B, C*t*h*w, T, H, W) -> (B, C, T*t, H*h, W*w)."""
    x = x.unflatten(1, (-1, *stride)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
