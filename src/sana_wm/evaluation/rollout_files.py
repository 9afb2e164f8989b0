"""What is kept on disk of a long video while it is measured, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sana_wm.engine.lock import lock
from sana_wm.engine.staging import staged
from sana_wm.engine.world import World
from sana_wm.errors import InputError, first_line

FORMAT, VERSION = "sana-wm rollout chunks", 2
THUMB_WIDTH, THUMB_QUALITY = 240, 90


class RolloutFiles:
    """The folder of one scene; use it in a `with` block, in which no other run may write there.

    chunks.jsonl     what it was made from, then a line for every chunk
    frames/          the last frame of every chunk, small; number 0 is the given picture
    world.safetensors, last_000040.png     the world after chunk 40 and its last frame, to go on from
    """

    def __init__(self, directory: Path, made_from: Mapping[str, Any]) -> None:
        """Raises:
        InputError: the place cannot be written, is in use, or holds chunks that were made from something else.
        """
        self.directory = directory
        self.rows_path, self.world_path = directory / "chunks.jsonl", directory / "world.safetensors"
        self._header = json.loads(json.dumps({"format": FORMAT, "version": VERSION, "made_from": dict(made_from)}))
        try:
            (directory / "frames").mkdir(parents=True, exist_ok=True)
            self._lock = (directory / ".lock").open("w")
        except OSError as error:
            raise InputError(f"output folder '{directory}' cannot be written ({error.strerror or error}).") from error
        try:
            lock(self._lock, directory)
            if not self.rows_path.exists():
                self._rewrite([])
            self._check()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> RolloutFiles:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def rows(self) -> list[dict[str, Any]]:
        """The numbers of all chunks so far; a line that was cut off when the process died is none."""
        return self._lines()[1:]

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a chunk."""
        with self.rows_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def keep_frame(self, chunk: int, frame: npt.NDArray[np.uint8]) -> None:
        """Keep a picture (H,W,3) for the contact sheet."""
        height, width = frame.shape[:2]
        picture = Image.fromarray(frame)
        if width > THUMB_WIDTH:
            picture = picture.resize((THUMB_WIDTH, round(height * THUMB_WIDTH / width)), Image.Resampling.LANCZOS)
        picture.save(self._frame_path(chunk), quality=THUMB_QUALITY)

    def frames(self, chunks: list[int]) -> Tensor:
        """The pictures (n,3,h,w) uint8 that were kept of these chunks."""
        pictures = [np.asarray(Image.open(self._frame_path(chunk)).convert("RGB")) for chunk in chunks]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)

    def save(self, world: World, frame: npt.NDArray[np.uint8]) -> None:
        """Save a world and its last frame (H,W,3). The frame comes first: a world that is there has its own.

        Raises:
            InputError: the disk says no.
        """
        path = self._last_path(world.chunk)
        with staged(self.directory) as folder:
            Image.fromarray(frame).save(folder / path.name, compress_level=1)
        world.save(self.world_path)
        for old in self.directory.glob("last_*.png"):
            if old != path:
                old.unlink(missing_ok=True)

    def resume(self, fresh: World) -> tuple[World, npt.NDArray[np.uint8] | None]:
        """The world to go on with and its last frame; `fresh` and None if none was saved. Later chunks are forgotten.

        Raises:
            InputError: what was saved is damaged, or is not of the same video.
        """
        rows = self.rows()
        if not self.world_path.exists():
            self._rewrite([])
            return fresh, None
        world = World.load(fresh.pipe, self.world_path)
        last = self._last_path(world.chunk)
        same = (world.plan, world.state.seed) == (fresh.plan, fresh.state.seed)
        if not same or len(rows) < world.chunk or not last.exists():
            raise InputError(f"'{self.directory}' is damaged: its world is not that of its chunks; remove the folder.")
        self._rewrite(rows[: world.chunk])
        world.stages = fresh.stages
        return world, np.asarray(Image.open(last).convert("RGB")).copy()

    def _frame_path(self, chunk: int) -> Path:
        return self.directory / "frames" / f"{chunk:06d}.jpg"

    def _last_path(self, chunk: int) -> Path:
        return self.directory / f"last_{chunk:06d}.png"

    def _check(self) -> None:
        found = (self._lines() or [{}])[0]
        if found.get("format") != FORMAT or found.get("version") != VERSION:
            raise InputError(f"'{self.rows_path}' is no list of chunks of this program; name another folder.")
        for what, value in self._header["made_from"].items():
            other = found["made_from"].get(what)
            if other != value:
                raise InputError(
                    f"'{self.directory}' was measured with another {what} ({_short(other)}, not {_short(value)}); name "
                    "another folder."
                )

    def _lines(self) -> list[dict[str, Any]]:
        found = []
        try:
            with self.rows_path.open(encoding="utf-8") as file:
                for line in file:
                    if not line.endswith("\n"):
                        break
                    found.append(json.loads(line))
        except (OSError, ValueError) as error:
            raise InputError(f"'{self.rows_path}' cannot be read ({first_line(error)}).") from error
        return found

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        with staged(self.directory) as folder:
            lines = [json.dumps(line, allow_nan=False) + "\n" for line in (self._header, *rows)]
            (folder / self.rows_path.name).write_text("".join(lines), encoding="utf-8")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
