"""The part of a report that shows one scene."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

from sana_wm.evaluation.bench.aggregate import Result, failure, part
from sana_wm.evaluation.bench.plan import SHEET
from sana_wm.evaluation.bench.report.curves import floor_level, scene_charts
from sana_wm.evaluation.bench.settings import CAMERA, REVISIT, TRUTH

SHRINK = 0.8
LEAST_WIDTH = 240
QUALITY = 75


def scene_block(scene: Result, sheet: Path, most_bytes: int, *, unfolded: bool) -> str:
    """A block that folds: what the scene is, its numbers, its contact sheet (of at most `most_bytes`), its charts."""
    described, reason = scene["scene"], failure(scene)
    state = f'<span class="bad">failed: {escape(reason)}</span> ' if reason else ""
    head = f"<b>{escape(described['id'])}</b>{state}<span class='soft'>{escape(_numbers(scene))}</span>"
    parts = [f"<p><span class='soft'>{escape(described['trajectory_id'])}:</span> {escape(described['prompt'])}</p>"]
    shown = part(scene, SHEET)
    if shown and sheet.is_file():
        frames = ", ".join(map(str, shown["frames"]))
        rows = " above ".join(shown["rows"])
        data = base64.b64encode(shrunk(sheet, most_bytes)).decode()
        parts.append(f'<img alt="{escape(described["id"])}" src="data:image/jpeg;base64,{data}">')
        parts.append(f'<p class="note">{escape(rows)}, frames {frames}</p>')
    if scene["failed"] is None:
        parts.append(scene_charts(scene))
    state = " open" if unfolded else ""
    return f'<details{state}><summary>{head}</summary><div class="scene">{"".join(parts)}</div></details>'


def shrunk(path: Path, most_bytes: int) -> bytes:
    """A JPEG file as it is, or made smaller until it fits or is as narrow as can be looked at."""
    data = path.read_bytes()
    if len(data) <= most_bytes:
        return data
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    while len(data) > most_bytes and picture.width * SHRINK >= LEAST_WIDTH:
        picture = picture.resize((round(picture.width * SHRINK), max(1, round(picture.height * SHRINK))))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        data = buffer.getvalue()
    return data


def _numbers(scene: Result) -> str:
    """The numbers of a scene in a line, floors in brackets."""
    found = []
    release = part(scene, CAMERA).get("release", {})
    for name, title, unit in (("rot_err", "RotErr", "°"), ("trans_err", "TransErr", ""), ("cam_mc", "CamMC", "")):
        if release.get(name) is not None:
            floor = floor_level(scene, name)
            found.append(f"{title} {release[name]:.2f}{unit}" + ("" if floor is None else f" ({floor:.2f})"))
    if part(scene, CAMERA):
        found.append(f"registered {part(scene, CAMERA)['registered']:.0%}")
    psnr = part(scene, TRUTH).get("psnr")
    if psnr is not None:
        floor = floor_level(scene, "psnr")
        found.append(f"PSNR {psnr:.1f} dB" + ("" if floor is None else f" ({floor:.1f})"))
    pairs = part(scene, REVISIT).get("pairs")
    if pairs:
        found.append(f"{len(pairs)} revisits {sum(p['psnr'] for p in pairs) / len(pairs):.1f} dB")
    return " · ".join(found)
