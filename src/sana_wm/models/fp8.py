"""The large products of every block in eight-bit floats: less accurate, faster on GPUs that multiply them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.ops.dispatch import kernels_take
from sana_wm.ops.fp8 import ADA, MULTIPLE, Rows, fp8_linear, quantize_rows

PRODUCTS = (
    *(
        f"attn.{name}"
        for name in ("qkv", "proj", "output_gate", "q_proj_cam", "k_proj_cam", "v_proj_cam", "out_proj_cam")
    ),
    "cross_attn.q_linear",
    "cross_attn.proj",
    "mlp.inverted_conv.conv",
    "mlp.point_conv.conv",
)
"""What of a block multiplies all tokens by a matrix. The rest stays as it is: gates, what reads the caption, and the
filter along time, which adds up three products."""


class Fp8Linear(nn.Module):
    """A linear map of the last axis, its weights in eight bits."""

    values: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """weight: (N, C)."""
        super().__init__()
        rows = quantize_rows(weight.detach())
        self.register_buffer("values", rows.values)
        self.register_buffer("scale", rows.scale)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return fp8_linear(x, Rows(self.values, self.scale), self.bias)


def check_fp8(device: torch.device) -> None:
    """Raises:
    InputError: the device does not multiply eight-bit floats, or there is no kernel to make them.
    """
    if not kernels_take(torch.empty(0, dtype=torch.bfloat16, device=device)):
        raise InputError(f"fp8 is asked for on {device}; it needs a CUDA device, and Triton.")
    if torch.cuda.get_device_capability(device) < ADA:
        name = torch.cuda.get_device_name(device)
        raise InputError(f"fp8 is asked for on {device}, a {name}; Ada and Hopper were the first to multiply them.")


@torch.no_grad()
def to_fp8(transformer: SanaWMTransformer) -> SanaWMTransformer:
    """The same transformer, its `PRODUCTS` replaced, for inference only.

    A product whose sides are no multiples of 16 stays as it is.
    """
    for block in transformer.blocks:
        for name in PRODUCTS:
            product = block.get_submodule(name)
            if not isinstance(product, nn.Linear | nn.Conv2d):
                continue
            weight = product.weight.flatten(1)
            if all(side % MULTIPLE == 0 for side in weight.shape):
                owner, _, last = name.rpartition(".")
                setattr(block.get_submodule(owner), last, Fp8Linear(weight, product.bias))
    return transformer


def is_fp8(transformer: SanaWMTransformer) -> bool:
    return any(isinstance(module, Fp8Linear) for module in transformer.modules())
