"""Depthwise 3x3 convolution of channels-last tokens (spec 10, section 10).

:func:`depthwise_conv_plain` runs everywhere and defines the result. On a CUDA device :func:`depthwise_conv` runs the
kernels of `depthwise_conv_triton` instead: the operation does next to no arithmetic, so it should cost what reading and
writing the tokens costs, and the gradients of the library's channels-last convolution cost many times that.

Shapes: F images (batch and frames together), H x W pixels, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.ops.dispatch import inference_kernels_take, kernels_take


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
    """Zero padded, stride 1: the Triton kernels on CUDA where Triton is installed, the plain twin elsewhere.

    The result has autocast's dtype where autocast is on, as that of `F.conv2d`; else the common dtype of all three. The
    kernels read the weights as they are, without rounding them to that dtype.

    Args:
        x: (F, H*W, C); weight: (C, 1, 3, 3); bias: (C,).

    Returns:
        (F, H*W, C).
    """
    dtype = _result_dtype(x, weight, bias)
    x = x.to(dtype)
    if kernels_take(x):
        return fused_depthwise_conv(x.contiguous(), weight, bias, height, width)
    return depthwise_conv_plain(x, weight.to(dtype), bias.to(dtype), height, width)


def glu_depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
    """The convolution of SiLU(x), then its first half of channels * SiLU(its second half): (F,H*W,2C) -> (F,H*W,C)."""
    if inference_kernels_take(x):
        from sana_wm.ops.pointwise_triton import glu_depthwise

        return glu_depthwise(x, weight, bias, height, width)
    value, gate = depthwise_conv(F.silu(x), weight, bias, height, width).chunk(2, dim=-1)
    return value * F.silu(gate)


def depthwise_conv_plain(x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
    """As :func:`depthwise_conv`, for one dtype."""
    # Channels stay last in memory; the permutation is only a view.
    images = x.unflatten(1, (height, width)).permute(0, 3, 1, 2)
    images = F.conv2d(images, weight, bias, padding=1, groups=x.shape[-1])
    return images.permute(0, 2, 3, 1).flatten(1, 2)


def _result_dtype(x: Tensor, weight: Tensor, bias: Tensor) -> torch.dtype:
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:  # autocast leaves float64 alone
        return torch.get_autocast_dtype(device)
    return torch.promote_types(x.dtype, torch.promote_types(weight.dtype, bias.dtype))


@torch.library.custom_op("sana_wm::depthwise_conv", mutates_args=())
def fused_depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
    """The kernels as an operator, which a compiler takes as it is. The result has the dtype of x and is contiguous."""
    from sana_wm.ops.depthwise_conv_triton import convolve

    return convolve(x, weight, bias, height, width)


@fused_depthwise_conv.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("sana_wm::depthwise_conv_grad", mutates_args=())
def fused_depthwise_conv_grad(
    grad: Tensor, x: Tensor, weight: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, of the weight and of the bias, given that of the result (F, H*W, C).

    The first has the dtype of x, the others that of the weight.
    """
    from sana_wm.ops.depthwise_conv_triton import convolve, weight_grads

    # Every pixel gave to its neighbours what the mirrored taps take back from them.
    grad_x = convolve(grad, weight, None, height, width)
    grad_weight, grad_bias = weight_grads(grad, x, weight, height, width)
    return grad_x, grad_weight, grad_bias


@fused_depthwise_conv_grad.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


def _save_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int, int], output: Tensor) -> None:
    x, weight, _, height, width = inputs
    ctx.save_for_backward(x, weight)
    ctx.size = height, width


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
    grad_x, grad_weight, grad_bias = fused_depthwise_conv_grad(grad.contiguous(), *ctx.saved_tensors, *ctx.size)
    return grad_x, grad_weight, grad_bias, None, None


fused_depthwise_conv.register_autograd(_backward, setup_context=_save_for_backward)
