"""Three-axis rotary position tables and their application (spec 10, section 5)."""

from __future__ import annotations

import torch
from torch import Tensor

THETA = 10_000.0


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """Complex pairs a head of `head_dim` channels gives to the axes (t, y, x)."""
    spatial = head_dim // 6
    return head_dim // 2 - 2 * spatial, spatial, spatial


def axis_angles(positions: Tensor, pairs: int, keep: int | None = None) -> Tensor:
    """Angles of one axis, float64: (P,) positions -> (P, keep); frequencies are those of an axis with `pairs` pairs."""
    index = torch.arange(pairs if keep is None else keep, dtype=torch.float64, device=positions.device)
    return positions.double()[:, None] * THETA ** (-index / pairs)


def rotary_table(
    frames: Tensor, height: int, width: int, head_dim: int, *, camera: bool = False
) -> tuple[Tensor, Tensor]:
    """Cosines and sines for tokens ordered (t, y, x).

    Args:
        frames: (T,) absolute latent-frame positions.
        camera: the table of the camera branch, which rotates only the second half of a head: of every axis it keeps the
            first (highest) frequencies of the full table, it is not a table built for half the width.

    Returns:
        (cos, sin), each (T*H*W, head_dim/2) or, for the camera branch, (T*H*W, head_dim/4), float32.
    """
    full = axis_pairs(head_dim)
    keep = axis_pairs(head_dim // 2) if camera else full
    rows = torch.arange(height, device=frames.device)
    columns = torch.arange(width, device=frames.device)
    t, y, x = (
        axis_angles(positions, pairs, kept)
        for positions, pairs, kept in zip((frames, rows, columns), full, keep, strict=True)
    )
    size = (len(frames), height, width)
    angles = torch.cat(
        [
            t[:, None, None].expand(*size, -1),
            y[None, :, None].expand(*size, -1),
            x[None, None, :].expand(*size, -1),
        ],
        dim=-1,
    ).flatten(0, 2)
    return angles.cos().float(), angles.sin().float()


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the interleaved pairs (2j, 2j+1) of the last axis: x (..., 2P) with cos, sin broadcasting to (..., P)."""
    wide = torch.promote_types(torch.promote_types(x.dtype, cos.dtype), torch.float32)
    pairs = torch.view_as_complex(x.to(wide).unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos.to(wide), sin.to(wide))).flatten(-2)
