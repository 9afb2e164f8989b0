"""Every picture people have becomes the right RGB pixels, and what is no usable picture is refused in one sentence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sana_wm.engine.image_input import MAX_PIXELS, read_image
from sana_wm.errors import InputError
from tests.engine.tiny import picture


def refused(source: object, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image(source)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_path_an_image_and_an_array_give_the_same_pixels(tmp_path: Path) -> None:
    image = picture()
    image.save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), image, np.asarray(image)):
        assert np.array_equal(np.asarray(read_image(source)), np.asarray(image))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.png", "nothing.png", "No such file")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "is a directory")


@pytest.mark.parametrize("content", [b"", b"hello, world", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n"])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png", "is not an image")


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_cut_off_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    picture().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, str(path), "(")


def test_a_single_pixel_is_refused() -> None:
    refused(Image.new("RGB", (1, 1)), "1x1", "at least 16")


def test_a_narrow_strip_is_refused() -> None:
    refused(Image.new("RGB", (16, 400)), "16x400", "crop")


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_huge_image_is_refused_without_unpacking_it(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    refused(tmp_path / "bomb.png", "bomb.png", "smaller")


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_turns_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = picture()
    upright.transpose(turned[orientation]).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), np.asarray(upright))


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((0, 0, 200, 255), (16, 0, 32, 32))
    image.save(tmp_path / "rgba.png")
    image.convert("RGBA").quantize(4).save(tmp_path / "palette.png")
    for name in ("rgba.png", "palette.png"):
        pixels = np.asarray(read_image(tmp_path / name))
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels[0, 31].tolist() == [0, 0, 200]


def test_half_transparency_is_mixed_with_white() -> None:
    assert np.asarray(read_image(Image.new("RGBA", (16, 16), (0, 0, 0, 128))))[0, 0].tolist() == [127, 127, 127]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = np.asarray(read_image(tmp_path / "a.jpg"))[16, 16].tolist()
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "YCbCr"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = read_image(Image.new(mode, (32, 32)))
    assert image.mode == "RGB"
    assert image.size == (32, 32)


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(levels).save(tmp_path / "a.png")
    pixels = np.asarray(read_image(tmp_path / "a.png"))
    assert np.abs(pixels[..., 0] - levels / 257).max() <= 0.5


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((32, 32), dtype=np.float32)).save(tmp_path / "a.tiff")
    refused(tmp_path / "a.tiff", "floating-point")


@pytest.mark.parametrize(
    ("shape", "kind"), [((32, 32, 3), float), ((32, 32, 2), np.uint8), ((0, 32, 3), np.uint8), ((5,), np.uint8)]
)
def test_arrays_of_another_form_are_refused(shape: tuple[int, ...], kind: type) -> None:
    refused(np.zeros(shape, kind), "uint8")
