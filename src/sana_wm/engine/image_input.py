"""A first frame in any form people have it, as one upright RGB picture."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sana_wm.errors import InputError, first_line

ImageSource: TypeAlias = str | Path | Image.Image | npt.NDArray[Any]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is read. Other formats of Pillow start foreign programs (EPS) or are hardly ever pictures."""
MIN_SIDE = 16
MAX_PIXELS = 89_478_485
"""Pillow's own bound against decompression bombs: a quarter of a gigabyte once unpacked to RGB."""
MAX_ASPECT = 16
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""EXIF's number for how the camera was held, and its values for pictures that lie on their side."""

# everything Pillow's decoders raise on damaged files
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(source: ImageSource) -> Image.Image:
    """The picture as RGB: turned upright by its EXIF orientation, laid over white where it is transparent.

    Grey, palette, CMYK and 16-bit pictures are converted (65535 is white); of an animation the first frame is taken.
    Colour profiles are not applied. An array must be uint8, (H,W), (H,W,3) or (H,W,4).

    Raises:
        InputError: missing or no picture, damaged, a side below 16 pixels, narrower than 1:16, or above 89 megapixels.
    """
    if isinstance(source, np.ndarray):
        name, image = "image array", _from_array(source)
    elif isinstance(source, Image.Image):
        name, image = "image", source
    else:
        name = f"image '{source}'"
        image = _open(Path(source), name)
    _check_size(image.size, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata that does not matter
            return _to_rgb(ImageOps.exif_transpose(image), name)
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{name} is damaged and cannot be decoded ({first_line(error)}).") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture, from the head of the file alone: its pixels may still be damaged.

    Raises:
        InputError: as :func:`read_image`, as far as the head tells.
    """
    name = f"image '{path}'"
    with _open(path, name) as image:
        _check_size(image.size, name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # for want of that entry the reader of PNG would go through all pixels to look behind them
                turn = image.getexif().get(ORIENTATION) if image.format != "PNG" or "exif" in image.info else None
        except _BROKEN as error:
            raise InputError(f"{name} is damaged and cannot be decoded ({first_line(error)}).") from error
        width, height = image.size
    return (height, width) if turn in SIDEWAYS else (width, height)


def _open(path: Path, name: str) -> Image.Image:
    if path.is_dir():
        raise InputError(f"{name} is a directory; give an image file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked below, with one sentence
            return Image.open(path, formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image of a kind that can be read ({', '.join(FORMATS)}).") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} has far more than {MAX_PIXELS} pixels; make it smaller first.") from error
    except _BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise InputError(f"{name} cannot be read ({reason}).") from error


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    shape = array.shape
    if array.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))) or 0 in shape:
        raise InputError(f"image array is {array.dtype} {shape}; it must be uint8, (H,W), (H,W,3) or (H,W,4).")
    return Image.fromarray(array)


def _check_size(wh: tuple[int, int], name: str) -> None:
    width, height = wh
    if min(wh) < MIN_SIDE:
        raise InputError(f"{name} is {width}x{height} pixels; both sides must be at least {MIN_SIDE}.")
    if width * height > MAX_PIXELS:
        raise InputError(f"{name} is {width}x{height} pixels; at most {MAX_PIXELS} are read, so make it smaller first.")
    if max(wh) > MAX_ASPECT * min(wh):
        raise InputError(f"{name} is {width}x{height} pixels, narrower than 1:{MAX_ASPECT}; crop it first.")


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise InputError(f"{name} holds floating-point numbers, whose white is unknown; save it with 8 bits a channel.")
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise InputError(f"{name} holds values beyond 16 bits; save it with 8 bits a channel.")
        # convert() would cut off everything above 255
        image = Image.fromarray(np.round(levels / 257).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")
