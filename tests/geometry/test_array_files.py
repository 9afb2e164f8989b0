"""Whatever a file holds, reading it ends in numbers or in an InputError, and never in running what it holds."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sana_wm.errors import InputError
from sana_wm.geometry import array_files
from sana_wm.geometry.array_files import read_arrays


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = write(tmp_path, npy_bytes(np.arange(3)))
    assert read_arrays(path, "thing", "x")["x"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"not numbers at all", b"\x80\x04K\x01."])
def test_a_file_that_is_no_array_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=f"thing '{path}'"):
        read_arrays(path, "thing", "x")


def test_missing_files_and_folders_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_arrays(tmp_path / "none.npy", "thing", "x")
    with pytest.raises(InputError, match="directory"):
        read_arrays(tmp_path, "thing", "x")


class Trap:
    """Unpickling one of these would create the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [lambda path, a: np.save(path.open("wb"), a), lambda path, a: np.savez(path, x=a)])
def test_pickled_objects_are_refused_and_not_run(tmp_path: Path, save: Callable[[Path, np.ndarray], None]) -> None:
    mark, path = tmp_path / "mark", tmp_path / "trap.npz"
    save(path, np.array([Trap(mark)], dtype=object))
    with pytest.raises(InputError, match="pickled"):
        read_arrays(path, "thing", "x")
    assert not mark.exists()


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    honest = npy_bytes(np.zeros((1, 4, 4)))
    lying = honest.replace(b"(1, 4, 4), }        ", b"(99999999999, 4, 4),}")[: len(honest)]
    assert lying != honest
    with pytest.raises(InputError):
        read_arrays(write(tmp_path, lying), "thing", "x")


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "MAX_BYTES", 10_000)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros(100_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="unpacks to"):
        read_arrays(path, "thing", "x")


def test_damaged_files_never_end_in_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_bytes(np.eye(4)[None]))
    outcomes = set()
    for original in (npy_bytes(np.eye(4)[None]), (tmp_path / "a.npz").read_bytes()):
        for _ in range(300):
            damaged = bytearray(original)
            for position in rng.integers(0, min(len(damaged), 160), size=rng.integers(1, 4)):
                damaged[position] = rng.integers(0, 256)
            cut = int(rng.integers(1, len(damaged) + 1)) if rng.random() < 0.2 else len(damaged)
            try:
                read_arrays(write(tmp_path, bytes(damaged[:cut])), "thing", "x")
                outcomes.add("read")
            except InputError:
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}
