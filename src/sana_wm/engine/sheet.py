"""A video on one page: some of its frames in a grid."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

MAX_WIDTH = 320
GAP, CAPTION = 8, 20
PAPER, INK = (250, 250, 248), (40, 40, 40)


def contact_sheet(frames: npt.NDArray[np.uint8], fps: int, count: int = 12, columns: int = 4) -> Image.Image:
    """`count` evenly spread frames of (F,H,W,3), first and last included, with their numbers and times."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)).tolist()
    columns = min(columns, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    height, width = frames.shape[1:3]
    scale = min(1.0, MAX_WIDTH / width)
    cell_w, cell_h = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = Image.new("RGB", (GAP + columns * (cell_w + GAP), GAP + rows * (cell_h + CAPTION + GAP)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, index in enumerate(chosen):
        x = GAP + place % columns * (cell_w + GAP)
        y = GAP + place // columns * (cell_h + CAPTION + GAP)
        picture = Image.fromarray(frames[index])
        if scale < 1.0:
            picture = picture.resize((cell_w, cell_h), Image.Resampling.LANCZOS)
        sheet.paste(picture, (x, y))
        draw.text((x, y + cell_h + CAPTION // 2), f"frame {index}, {index / fps:.2f} s", INK, font, anchor="lm")
    return sheet
