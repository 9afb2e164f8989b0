"""A prompt given as text, or as the name of a file that holds it."""

from __future__ import annotations

from pathlib import Path

from sana_wm.errors import InputError

MAX_BYTES = 64 * 1024


def read_prompt(value: str, folder: Path = Path()) -> str:
    """`value` itself, or the content of the UTF-8 text file of that name, which is looked for in `folder`.

    Raises:
        InputError: a name that ends in .txt is no file, or the file is not UTF-8 text or above 64 KiB.
    """
    try:
        is_file = (folder / value).is_file()
    except (OSError, ValueError):  # too long, or with characters no file name has: text
        is_file = False
    if not is_file:
        if value.endswith(".txt") and not any(c.isspace() for c in value):
            raise InputError(f"prompt file '{value}' does not exist; give a file or the text itself.")
        return value
    path = folder / value
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"prompt file '{value}' has {path.stat().st_size} bytes; at most {MAX_BYTES} are read.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"prompt file '{value}' cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"prompt file '{value}' is not UTF-8 text (byte {error.start}).") from error
