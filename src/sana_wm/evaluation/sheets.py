"""Contact sheets that set what was made beside what is true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP, CAPTION, MARGIN, LABEL_SIZE = 4, 16, 70, 11
PAPER, INK = (250, 250, 248), (40, 40, 40)

Rows = Sequence[tuple[str, Tensor]]
"""Label and pictures (n,3,H,W) uint8 of each row."""


def write_sheet(path: Path, blocks: Sequence[tuple[str, Sequence[str], Rows]]) -> None:
    """Write a PNG of blocks, one under another: a title, a label for each column, and rows of pictures.

    All pictures have one size.
    """
    pictures = blocks[0][2][0][1]
    height, width = pictures.shape[-2:]
    columns = max(len(row) for _, _, rows in blocks for _, row in rows)
    total = sum(2 * CAPTION + len(rows) * (height + GAP) for _, _, rows in blocks)
    sheet = Image.new("RGB", (MARGIN + columns * (width + GAP), total), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LABEL_SIZE)
    y = 0
    for title, labels, rows in blocks:
        draw.text((GAP, y + CAPTION // 2), title, INK, font, anchor="lm")
        y += CAPTION
        for column, label in enumerate(labels):
            draw.text((MARGIN + column * (width + GAP), y + CAPTION // 2), label, INK, font, anchor="lm")
        y += CAPTION
        for name, row in rows:
            draw.text((GAP, y + height // 2), name, INK, font, anchor="lm")
            for column, picture in enumerate(row.permute(0, 2, 3, 1).cpu().numpy()):
                sheet.paste(Image.fromarray(picture), (MARGIN + column * (width + GAP), y))
            y += height + GAP
    sheet.save(path)
