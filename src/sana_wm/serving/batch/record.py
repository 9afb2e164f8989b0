"""The record of a run: one line for every job that ended, written when it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sana_wm.engine.lock import lock
from sana_wm.errors import InputError
from sana_wm.serving.batch.outcome import Outcome

FILE = "results.jsonl"


class Record:
    """`results.jsonl` in the folder of the results. Of several lines about one name the last one counts."""

    def __init__(self, directory: Path, file: IO[str], found: Mapping[str, Mapping[str, Any]]) -> None:
        self._directory, self._file, self._found = directory, file, found

    @classmethod
    @contextmanager
    def open(cls, directory: Path) -> Iterator[Record]:
        """Keep other runs out of `directory` (made if need be) for the block; the lock ends with the process.

        Raises:
            InputError: another run writes there, or nobody can.
        """
        path = directory / FILE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise InputError(f"record '{path}' cannot be written ({error.strerror or error}).") from error
        with file:
            lock(file, directory)
            file.seek(0)
            try:
                text = file.read()
            except UnicodeDecodeError as error:
                raise InputError(f"record '{path}' is not UTF-8 text (byte {error.start}); move it away.") from error
            if text and not text.endswith("\n"):  # a killed run was writing that line
                file.write("\n")
            yield cls(directory, file, _lines(text))

    def knows(self, name: str) -> bool:
        """Whether a video of that name has been made."""
        return self._found.get(name, {}).get("status") == "done"

    def has(self, name: str, settings: str) -> bool:
        """Whether the video was made with just these settings, and its files are as they were left."""
        entry = self._found.get(name, {})
        files = entry.get("files")
        if entry.get("status") != "done" or entry.get("settings") != settings or not isinstance(files, dict):
            return False
        paths = [self._directory / name for name in files]
        return all(path.is_file() and path.stat().st_size == files[path.name] for path in paths)

    def add(self, outcome: Outcome) -> None:
        """Append a line, on the disk when this returns.

        Raises:
            InputError: it cannot be written.
        """
        entry = {
            "name": outcome.name,
            "status": "done" if outcome.error is None else "failed",
            "line": outcome.line,
            "seconds": round(outcome.seconds, 3),
            "files": dict(outcome.files),
            "frames_sha256": outcome.frames_sha256,
            "error": outcome.error,
            "warnings": list(outcome.warnings),
            "settings": outcome.settings,
        }
        try:
            self._file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            where = self._directory / FILE
            raise InputError(f"record '{where}' cannot be written ({error.strerror or error}).") from error


def _lines(text: str) -> dict[str, dict[str, Any]]:
    """The last line about each name; what is no line of ours (the end of a killed run) counts as nothing."""
    found = {}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            found[entry["name"]] = entry
    return found
