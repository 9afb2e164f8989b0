"""A directory that appears complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sana_wm.errors import InputError

GIGABYTE = 10**9


def check_free(folder: Path) -> None:
    """Raise an :class:`InputError` if `folder` is a file or has something in it."""
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise InputError(f"{folder} exists and is not empty; name a new directory")


def check_disk(folder: Path, needed: int) -> None:
    """Raise an :class:`InputError` if less than `needed` bytes are free where `folder` is or will be."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(f"{folder} needs {needed / GIGABYTE:.1f} GB; {free / GIGABYTE:.1f} are free there")


@contextmanager
def replacing(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """An empty directory beside `folder` that takes its place when the block ends well, and is removed when it does
    not, together with the folders that were made to hold it.

    Raises:
        InputError: `folder` is there, not empty, and `overwrite` is off; or it cannot be made.
    """
    if not overwrite:
        check_free(folder)
    missing = [path for path in folder.parents if not path.exists()]
    work: Path | None = None
    done = False
    try:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror or error})") from error
        new, old = work / "new", work / "old"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        done = True
    finally:
        if work is not None:
            shutil.rmtree(work)
        for path in missing if not done else ():
            with suppress(OSError):  # never made, or somebody else has put something there meanwhile
                path.rmdir()
