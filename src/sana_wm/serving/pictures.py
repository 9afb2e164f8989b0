"""The first frame of a guest: bytes from outside, bounded before they are unpacked."""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings

from PIL import Image

from sana_wm.engine.image_input import read_image
from sana_wm.errors import InputError
from sana_wm.serving.limits import Limits

FORMATS = ("JPEG", "PNG", "WEBP")
"""What browsers send; the rarer decoders are not offered to strangers."""
_PREFIX = re.compile(r"data:image/[a-z.+-]{1,20};base64,")


def decode_picture(text: str, limits: Limits) -> Image.Image:
    """The upright RGB picture whose bytes `text` holds in base64, with or without `data:image/...;base64,` in front.

    Raises:
        InputError: it is too large, of another kind, or damaged.
    """
    found = _PREFIX.match(text[:64])
    body = text[found.end() :] if found else text
    most = limits.upload_bytes * 4 // 3 + 4
    if len(body) > most:
        raise InputError(f"first_frame has {len(body)} characters of base64; at most {most} are read.")
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("first_frame is no base64; send the bytes of a picture file.") from error
    return open_picture(data, limits)


def open_picture(data: bytes, limits: Limits) -> Image.Image:
    """The same of the bytes themselves."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked below, with one sentence
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"first_frame has too many pixels; at most {limits.picture_side} a side are read.") from error
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"first_frame is no picture of a kind that is read ({', '.join(FORMATS)}).") from error
    width, height = image.size
    if max(width, height) > limits.picture_side:
        raise InputError(f"first_frame is {width}x{height} pixels; at most {limits.picture_side} a side are read.")
    try:
        return read_image(image)
    except InputError as error:
        raise InputError(str(error).replace("image", "first_frame", 1)) from error
