"""Messages of somebody who means no good, drawn from a seeded generator: `draw(random)` gives one."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

Message = str | bytes
NAMES = [
    "type", "camera_actions", "look", "seq", "node", "paused", "prompt", "first_frame", "condition_inputs", "fov",
    "intrinsics", "seed", "max_chunks", "pace", "encoding", "__class__", "constructor", "", "\u0000", "x" * 3000,
]  # fmt: skip
KINDS = ["init", "event", "rewind", "pause", "cancel", "ready", "closed", "INIT", "", None, 1, ["event"]]
LEAVES: list[Any] = [
    None, True, False, -1, 0, 1, 3.5, 1e308, -1e308, 2**53, 2**63, 2**70, -(2**70), "", "w", "wd", "none", "w-24",
    "w-99999999999999", "w-0", "-", ",,,", "ｗ-3", "\u0000", "\ud800", "\U0001f600" * 50, "live", "step", "raw", "jpeg",
    "NaN", "a" * 3000, "../../etc/passwd", "%s%n{0}", "<script>",
]  # fmt: skip
TEXTS: list[Message] = [
    "", " ", "null", "[]", "{}", '"', "{", "}", "[" * 30_000, "[" * 30_000 + "]" * 30_000, '{"a":' * 20_000, "NaN",
    "-Infinity", "1e99999", "9" * 5000, "-" + "9" * 4000, '{"type":"event","look":[1e999,0]}',
    '{"type":"event","seq":1e2}', '{"type":"event","seq":-0}', '{"type":"pause","type":"cancel"}', "\ufeff{}",
    '{"type":"event","camera_actions":"\\ud800-3"}', '{"type":"rewind","node":1e400}', "\u2028", "0" * 65_000,
    '{"type":"event","prompt":"' + "a" * 70_000 + '"}', b"", b"\x00", b"\xff" * 1000, b'{"type":"cancel"}',
]  # fmt: skip


def draw(random: random.Random) -> Message:
    """One message."""
    way = random.random()
    if way < 0.25:
        return random.choice(TEXTS)
    if way < 0.3:
        return random.randbytes(random.randrange(300))
    content = {str(random.choice(NAMES)): value(random) for _ in range(random.randrange(4))}
    if random.random() < 0.9:
        content["type"] = random.choice(KINDS if random.random() < 0.2 else KINDS[1:5])
    text = json.dumps(content)
    if random.random() < 0.2:
        at = random.randrange(len(text))
        text = text[:at] + random.choice(["", "\\", '"', "}", "\u2028", "\x00", ","]) + text[at + 1 :]
    return text


def value(random: random.Random, deep: int = 3) -> Any:
    way = random.random()
    if deep and way < 0.15:
        return [value(random, deep - 1) for _ in range(random.choice([0, 1, 2, 4, 24, 300]))]
    if deep and way < 0.25:
        return {str(random.choice(NAMES)): value(random, deep - 1) for _ in range(random.randrange(4))}
    return random.choice(LEAVES)


def beginning(random: random.Random) -> str:
    """An `init` that may even be right."""
    fields: dict[str, Any] = {"type": "init", "prompt": "a street", "first_frame": picture(random), "pace": "step"}
    for _ in range(random.randrange(3)):
        fields[random.choice(NAMES)] = value(random)
    return json.dumps(fields)


def picture(random: random.Random) -> str:
    """A picture in base64 that is damaged, a bomb, of another kind or cut off; seldom a good one."""
    data = random.choice(PICTURES)(random)
    for _ in range(random.choice([0, 0, 1, 3, 30])):
        at = random.randrange(len(data))
        data = data[:at] + random.randbytes(random.choice([0, 1, 4])) + data[at + 1 :]
    text = base64.b64encode(data[: random.choice([len(data), len(data), random.randrange(len(data)) + 1])]).decode()
    return random.choice(["", "", "data:image/png;base64,", "data:text/html;base64,", "!"]) + text


def _saved(form: str, mode: str = "RGB", **options: Any) -> Callable[[random.Random], bytes]:
    def save(random: random.Random) -> bytes:
        size = random.choice([(48, 32), (16, 16), (15, 40), (1, 1), (64, 4000), (300, 200)])
        data = io.BytesIO()
        Image.effect_noise(size, 80).convert(mode).save(data, form, **options)
        return data.getvalue()

    return save


def _bomb(random: random.Random) -> bytes:
    """A small PNG of very many pixels, or with a chunk that unpacks to very much."""
    side = random.choice([4096, 4097, 30_000, 2**31 - 1])
    rows = zlib.compress(bytes(min(side, 4096) * (side // 8 + 1)) if side <= 4096 else bytes(10_000))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))]
    chunks += [(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(20_000_000)))] if random.random() < 0.3 else []
    chunks += [(b"IDAT", rows), (b"IEND", b"")]
    boxes = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(boxes)


def _turned(random: random.Random) -> bytes:
    """A JPEG with a damaged EXIF."""
    data = io.BytesIO()
    exif = b"Exif\x00\x00" + random.choice([b"II*\x00\x08\x00\x00\x00", b"MM\x00*\xff\xff\xff\xff", b""])
    Image.effect_noise((48, 32), 80).convert("RGB").save(data, "JPEG", exif=exif + random.randbytes(40))
    return data.getvalue()


PICTURES = [
    _saved("PNG"), _saved("PNG", "RGBA"), _saved("PNG", "P"), _saved("PNG", "1"), _saved("JPEG"),
    _saved("JPEG", "CMYK"), _saved("WEBP"), _saved("GIF", "P"), _saved("TIFF"), _saved("BMP"),
    _saved("JPEG", progressive=True), _bomb, _turned, lambda random: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    lambda random: random.randbytes(200),
]  # fmt: skip
