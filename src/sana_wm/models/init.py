"""Initialisation for training from scratch (spec 10, section 12)."""

from __future__ import annotations

import math

import torch
from torch import nn

from sana_wm.models.embeddings import RMSNorm
from sana_wm.models.frame_gdn import FrameGatedDeltaNet
from sana_wm.models.transformer import SanaWMTransformer

BETA_BIAS = 5.0
DT_BIAS = -5.0
UNIT_SILU = 1.278464542761074
"""SiLU of this is 1: an output gate that starts open."""


@torch.no_grad()
def init_transformer(model: SanaWMTransformer, generator: torch.Generator) -> None:
    """Set every weight, whatever the memory held: gates near plain linear attention, the camera branch silent."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Conv2d):
            _conv_default(module, generator)
        elif isinstance(module, RMSNorm):
            module.weight.fill_(1.0)
    _embeddings(model, generator)
    table_std = model.config.width**-0.5
    for block in model.blocks:
        block.scale_shift_table.normal_(0, table_std, generator=generator)
        attn = block.attn
        attn.output_gate.weight.zero_()
        attn.output_gate.bias.fill_(UNIT_SILU)
        if isinstance(attn, FrameGatedDeltaNet):
            for projection in (attn.beta_proj, attn.gate_proj):
                projection.weight.zero_()
                projection.bias.zero_()
            attn.beta_proj.bias.fill_(BETA_BIAS)
            attn.A_log.zero_()
            attn.dt_bias.fill_(DT_BIAS)
            attn.conv_k.weight.zero_()
            attn.conv_k.weight[..., -1] = 1.0
        block.mlp.t_conv.weight.zero_()
    model.final_layer.scale_shift_table.normal_(0, table_std, generator=generator)
    camera_from_main(model)


@torch.no_grad()
def camera_from_main(model: SanaWMTransformer) -> None:
    """Start the camera branch as a silent copy of the main branch.

    Also for a checkpoint without camera weights: call it after loading, so that the copy is of trained weights.
    """
    for block in model.blocks:
        attn = block.attn
        for part, weight in zip("qkv", attn.qkv.weight.chunk(3), strict=True):
            projection = getattr(attn, f"{part}_proj_cam")
            projection.weight.copy_(weight)
            projection.bias.zero_()
        attn.q_norm_cam.weight.copy_(attn.q_norm.weight)
        attn.k_norm_cam.weight.copy_(attn.k_norm.weight)
        if isinstance(attn, FrameGatedDeltaNet):
            attn.conv_k_cam.weight.copy_(attn.conv_k.weight)
        attn.out_proj_cam.weight.zero_()
        attn.out_proj_cam.bias.zero_()


def _embeddings(model: SanaWMTransformer, generator: torch.Generator) -> None:
    patch = model.x_embedder.proj
    nn.init.xavier_uniform_(patch.weight.view(patch.out_channels, -1), generator=generator)
    _uniform(patch.bias, patch.in_channels, generator)
    time = (model.t_embedder.mlp.get_parameter(f"{i}.weight") for i in (0, 2))
    caption = model.y_embedder.y_proj
    for weight in (*time, model.t_block.get_parameter("1.weight"), caption.fc1.weight, caption.fc2.weight):
        weight.normal_(0, 0.02, generator=generator)
    # Zero here, Xavier in every block's plucker_proj: silent at the start, and still able to learn.
    for parameter in model.plucker_embedder.parameters():
        parameter.zero_()
    model.y_embedder.y_embedding.normal_(0, model.config.caption_channels**-0.5, generator=generator)


def _conv_default(conv: nn.Conv2d, generator: torch.Generator) -> None:
    fan_in = conv.weight[0].numel()
    _uniform(conv.weight, fan_in, generator)
    if conv.bias is not None:
        _uniform(conv.bias, fan_in, generator)


def _uniform(tensor: torch.Tensor | None, fan_in: int, generator: torch.Generator) -> None:
    assert tensor is not None
    bound = 1 / math.sqrt(fan_in)
    tensor.uniform_(-bound, bound, generator=generator)
