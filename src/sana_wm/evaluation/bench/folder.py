"""The folder of a method's results: where everything lies, written so that a kill leaves no half file.

<method>/method_info.json
<method>/<split>/<scene_id>_generated.mp4        the videos, as the release lays them out
<method>/<split>/eval_poses.json                 camera errors, as the release lays them out
<method>/eval/<split>/<scene_id>.json            everything measured on a scene
<method>/eval/<split>/<scene_id>_sheet.jpg       the truth (where known) above the video
<method>/eval/<split>/videos/<scene_id>.json     how a video was made
<method>/summary.json, summary.md, report.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sana_wm.engine.lock import lock
from sana_wm.errors import InputError, first_line

METHOD_INFO = "method_info.json"
RELEASE_SECONDS = 60


@dataclass(frozen=True)
class MethodFolder:
    """Paths of one method's results. split_folders: folder name of each split, where it is not the split's own name."""

    root: Path
    split_folders: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path, seconds: Mapping[str, float]) -> MethodFolder:
        """The folder for splits of so many seconds: the release calls those of a minute `simple_60s` and `hard_60s`.

        A folder of the other name that is there already is used.
        """
        folders = {}
        for split, length in seconds.items():
            names = [split, f"{split}_{RELEASE_SECONDS}s"]
            usual = names[round(length) == RELEASE_SECONDS]
            folders[split] = next((name for name in (usual, *names) if (root / name).is_dir()), usual)
        return cls(root, folders)

    def split(self, split: str) -> str:
        """Name of the folders of a split."""
        return self.split_folders.get(split, split)

    @property
    def info(self) -> Path:
        return self.root / METHOD_INFO

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def tables(self) -> Path:
        return self.root / "summary.md"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def video(self, split: str, scene_id: str) -> Path:
        return self.root / self.split(split) / f"{scene_id}_generated.mp4"

    def eval_poses(self, split: str) -> Path:
        return self.root / self.split(split) / "eval_poses.json"

    def result(self, split: str, scene_id: str) -> Path:
        return self.root / "eval" / self.split(split) / f"{scene_id}.json"

    def sheet(self, split: str, scene_id: str) -> Path:
        return self.root / "eval" / self.split(split) / f"{scene_id}_sheet.jpg"

    def making(self, split: str, scene_id: str) -> Path:
        """How the video of a scene was made."""
        return self.root / "eval" / self.split(split) / "videos" / f"{scene_id}.json"

    def vbench(self, split: str) -> Path:
        return self.root / "eval" / self.split(split) / "vbench"

    def read_info(self) -> dict[str, Any]:
        """The content of `method_info.json`; empty where there is none.

        Raises :class:`InputError` if it is no JSON object.
        """
        if not self.info.is_file():
            return {}
        try:
            content = json.loads(self.info.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"'{self.info}' cannot be read as JSON ({first_line(error)}).") from error
        if not isinstance(content, dict):
            raise InputError(f"'{self.info}' holds {type(content).__name__}; it must be a JSON object.")
        return content

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of this folder; the lock ends with the process, however that ends.

        Raises :class:`InputError` while another run writes here, or where the folder cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".lock").open("w")
        except OSError as error:
            raise InputError(f"output folder '{self.root}' cannot be written ({error.strerror or error}).") from error
        with file:
            lock(file, self.root)
            yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write to that becomes `path` when the block ends well; its folders are made.

    The place has always the same name, so what a killed run leaves there is written over by the next; its suffix says
    nothing of what is in it, so nobody takes it for a video.
    Raises :class:`InputError` where the disk says no.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror or error}).") from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write plain values, all numbers finite, in one piece."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_ours(path: Path) -> dict[str, Any]:
    """A JSON object that this package wrote; empty where there is none, or none that can be used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing, or of a disk that lost its end: it is made anew
        return {}
    return content if isinstance(content, dict) else {}
