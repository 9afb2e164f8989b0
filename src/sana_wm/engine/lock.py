"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from sana_wm.errors import InputError


def lock(file: IO[str], directory: Path) -> None:
    """Keep other runs out of `directory` while `file`, which is in it, is open; the lock ends with the process.

    Raises:
        InputError: another run holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"another run is writing to '{directory}'; wait for it, or name another.") from error
