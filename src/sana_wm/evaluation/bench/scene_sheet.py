"""One picture that shows a whole scene: some frames of the truth, where it is known, above those of the video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sana_wm.evaluation.bench.folder import replacing

COLUMNS, FRAME_WIDTH, GAP = 6, 240, 2
BETWEEN = (128, 128, 128)
"""Grey, which suits light and dark pages alike."""
QUALITY = 82


def sheet_frames(num_frames: int) -> list[int]:
    """The frames shown: evenly spread, first and last included."""
    return sorted(set(torch.linspace(0, num_frames - 1, min(COLUMNS, num_frames)).round().long().tolist()))


def write_scene_sheet(path: Path, rows: Sequence[Sequence[Tensor]]) -> None:
    """Write a JPEG of rows of frames (3,H,W) uint8, all of one size."""
    height, width = rows[0][0].shape[1:]
    scale = min(1.0, FRAME_WIDTH / width)
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    columns = max(len(row) for row in rows)
    size = (columns * (cell[0] + GAP) - GAP, len(rows) * (cell[1] + GAP) - GAP)
    sheet = Image.new("RGB", size, BETWEEN)
    for y, row in enumerate(rows):
        for x, frame in enumerate(row):
            picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
            sheet.paste(picture.resize(cell, Image.Resampling.LANCZOS), (x * (cell[0] + GAP), y * (cell[1] + GAP)))
    with replacing(path) as partial:
        sheet.save(partial, "JPEG", quality=QUALITY)
