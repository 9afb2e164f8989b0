"""Files that appear together and complete, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sana_wm.errors import InputError

MAX_NAME_BYTES = 200
PREFIX = ".sana-wm-"


@contextmanager
def staged(directory: Path, mark: str = "") -> Iterator[Path]:
    """An empty folder whose files move into `directory` when the block ends well and vanish when it does not.

    The folder lies inside `directory` (made if need be), so moving a file is one atomic rename over what had its name.
    Its name begins with a dot and `mark`, by which :func:`sweep` finds what a killed process left.

    Raises:
        InputError: the disk says no.
    """
    made: list[Path] = []
    folder: Path | None = None
    try:
        made = _make(directory)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX + mark, dir=directory))
        yield folder
        for path in sorted(folder.iterdir()):
            path.replace(directory / path.name)
        made = []
    except OSError as error:
        raise InputError(f"output folder '{directory}' cannot be written ({error.strerror or error}).") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        _unmake(made)


def sweep(directory: Path, mark: str) -> None:
    """Remove the folders that processes with this `mark` left in `directory` when they were killed."""
    for folder in directory.glob(f"{PREFIX}{mark}*"):
        shutil.rmtree(folder, ignore_errors=True)


def check_writable(directory: Path, names: Sequence[str]) -> None:
    """Refuse a place where files called `names` could not be written later; leaves nothing behind.

    Raises:
        InputError: `directory` or a part of its path is a file or not ours to write to, or a name is a directory's.
    """
    made: list[Path] = []
    try:
        made = _make(directory)
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=directory):
            pass
    except OSError as error:
        raise InputError(f"output folder '{directory}' cannot be written ({error.strerror or error}).") from error
    finally:
        _unmake(made)
    for name in names:
        if (directory / name).is_dir():
            raise InputError(f"output '{directory / name}' is a directory; choose another name.")


def check_name(name: str) -> str:
    """`name` if it can be the stem of a file.

    Raises:
        InputError: it is empty, hidden, too long, or has separators or control characters in it.
    """
    if not name or name.startswith(".") or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name):
        raise InputError(f"name is {name!r}; it must be a plain file name without folder, such as 'street'.")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InputError(f"name has {len(name.encode())} bytes; at most {MAX_NAME_BYTES} are possible.")
    return name


def _make(directory: Path) -> list[Path]:
    """Make `directory`; returns what had to be made, outermost first."""
    missing = []
    for path in (directory, *directory.parents):
        if path.exists():
            break
        missing.append(path)
    directory.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _unmake(made: Sequence[Path]) -> None:
    for path in reversed(made):
        with suppress(OSError):  # somebody else has put something there meanwhile
            path.rmdir()
