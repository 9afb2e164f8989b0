"""The LTX-2 decoder chunk by chunk, with what its convolutions remember handed in and out (spec 41, section 5).

diffusers' decoder takes a whole video and has no way to be given a past. So this walks through the layers of its
`LTX2VideoDecoder3d` itself, with the same weights; only the two things that look across frames are written here: what
a causal convolution sees before its first frame, and the frame an upsampler drops at the beginning of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sana_wm.errors import InputError

FRAMES_SEEN = 2
"""Frames that a causal convolution of three taps sees before the current one."""


class Carry:
    """The last frames each convolution saw, in order of execution; one goes through the decoder once.

    tails: those of the chunk before, (B,C,2,h,w) each; empty at the beginning of a video.
    """

    def __init__(self, tails: Sequence[Tensor]) -> None:
        self.begins = not tails
        self._before = iter(tails)
        self.tails: list[Tensor] = []

    def extend(self, x: Tensor) -> Tensor:
        """(B,C,n,h,w) with the two frames before it in front; before a video they are its first frame."""
        before = x[:, :, :1].expand(-1, -1, FRAMES_SEEN, -1, -1) if self.begins else next(self._before)
        extended = torch.cat([before, x], dim=2)
        self.tails.append(extended[:, :, -FRAMES_SEEN:].clone())  # a copy, so that the rest can be freed
        return extended


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
    if unknown or any(block.upsamplers is None for block in decoder.up_blocks):
        what = unknown[0] if unknown else "a level without upsampling"
        raise InputError(f"the codec's decoder has {what}, which the streaming decoder does not know.")


def decode_chunk(decoder: Any, z: Tensor, tails: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Pixels of the next latents z (B,C,n,h,w) of a video, and the tails after them.

    Returns (B,3,8n,32h,32w), at the beginning of a video 8(n-1)+1 frames.
    """
    carry = Carry(tails)
    x = _conv(decoder.conv_in, z, carry)
    for block in decoder.mid_block.resnets:
        x = _resnet(block, x, carry)
    for level in decoder.up_blocks:
        x = _upsample(level.upsamplers[0], x, carry)
        for block in level.resnets:
            x = _resnet(block, x, carry)
    x = _conv(decoder.conv_out, decoder.conv_act(decoder.norm_out(x)), carry)
    patch = decoder.patch_size  # the horizontal phase is the slower one
    x = x.unflatten(1, (-1, patch, patch)).permute(0, 1, 4, 5, 3, 6, 2)
    return x.flatten(5, 6).flatten(3, 4), tuple(carry.tails)


def _resnets(decoder: Any) -> list[Any]:
    return [*decoder.mid_block.resnets, *(block for level in decoder.up_blocks for block in level.resnets)]


def _conv(layer: Any, x: Tensor, carry: Carry) -> Tensor:
    return layer.conv(carry.extend(x))


def _resnet(block: Any, x: Tensor, carry: Carry) -> Tensor:
    hidden = _conv(block.conv1, block.nonlinearity(block.norm1(x)), carry)
    return x + _conv(block.conv2, block.nonlinearity(block.norm2(hidden)), carry)


def _upsample(layer: Any, x: Tensor, carry: Carry) -> Tensor:
    """More frames, rows and columns out of channels, beside the input's own channels spread and repeated."""
    made = _from_channels(_conv(layer.conv, x, carry), layer.stride)
    if layer.residual:
        spread = _from_channels(x, layer.stride)
        made = made + spread.repeat(1, made.shape[1] // spread.shape[1], 1, 1, 1)
    return made[:, :, layer.stride[0] - 1 :] if carry.begins else made


def _from_channels(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """(B, C*t*h*w, T, H, W) -> (B, C, T*t, H*h, W*w)."""
    x = x.unflatten(1, (-1, *stride)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
