"""A video that grows on disk, and beside it the saved world from which it can be gone on with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm.engine.conditions import Conditions
from sana_wm.engine.growing_mp4 import GrowingMp4
from sana_wm.engine.sidecar import frames_sha256, write_description
from sana_wm.engine.staging import staged
from sana_wm.engine.world import World
from sana_wm.engine.world_file import load_state, save_state
from sana_wm.engine.world_state import WorldState
from sana_wm.errors import InputError


@dataclass(frozen=True)
class StreamFiles:
    """Where a streamed video called `name` lies.

    Attributes:
        video: grows and plays at every moment. world: the state after the last chunk saved, to go on from.
        sidecar: the description; it appears when the video is complete.
    """

    video: Path
    world: Path
    sidecar: Path

    @classmethod
    def of(cls, directory: Path, name: str) -> StreamFiles:
        return cls(*(directory / (name + ending) for ending in (".mp4", ".world.safetensors", ".json")))

    def all(self) -> list[Path]:
        return [self.video, self.world, self.sidecar]


class Recording:
    """Writes the chunks of one world.

    Attributes:
        chunk_hashes: of the pixels of every chunk so far, also of those written before it was gone on with.
    """

    def __init__(
        self, world: World, conditions: Conditions, files: StreamFiles, video: GrowingMp4, save_every: int
    ) -> None:
        self.files, self.video = files, video
        self.chunk_hashes: list[str] = []
        self._world, self._conditions, self._save_every = world, conditions, save_every

    @classmethod
    def begin(
        cls, world: World, conditions: Conditions, files: StreamFiles, fps: int, save_every: int = 1
    ) -> Recording:
        """A new video in place of what there is by that name; the world is saved every so many chunks, with 0 never.

        Raises:
            InputError: the place cannot be written.
        """
        _remove(files.world, files.sidecar)  # they belong to the video that is about to be overwritten
        try:
            files.video.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"'{files.video.parent}' cannot be made ({error.strerror or error}).") from error
        return cls(world, conditions, files, GrowingMp4(files.video, fps), save_every)

    @classmethod
    def resume(
        cls, world: World, conditions: Conditions, files: StreamFiles, fps: int, save_every: int = 1
    ) -> Recording:
        """Go on with the video: `world`, which has just begun, is brought to where the saved one was.

        Raises:
            InputError: there is nothing to go on with, or it was made from something else.
        """
        if not files.world.exists():
            raise InputError(f"there is no saved world '{files.world}' to resume; leave out --resume to begin anew.")
        plan, state, notes = load_state(files.world, world.pipe)
        _check_same(notes.get("made_from"), _made_from(world.state, conditions, fps), files.world)
        if plan != world.plan:
            raise InputError(f"world '{files.world}' was made with other sampling settings; give the same to resume.")
        frames = world.num_frames_after(state.chunk)
        if frames > conditions.num_frames:
            raise InputError(
                f"world '{files.world}' has {frames} frames already; {conditions.num_frames} are asked for."
            )
        if notes.get("path_sha256") != _path_hash(conditions, frames):
            raise InputError(f"world '{files.world}' came along another camera path; give the same one to resume it.")
        hashes, nbytes = notes.get("chunks_sha256"), notes.get("video_bytes")
        if not isinstance(hashes, list) or len(hashes) != state.chunk or not isinstance(nbytes, int):
            raise InputError(f"world '{files.world}' does not say what of the video belongs to it.")
        video = GrowingMp4(files.video, fps, frames=frames, chunks=state.chunk, nbytes=nbytes)
        _remove(files.sidecar)  # of a shorter video, if that was complete
        recording = cls(world, conditions, files, video, save_every)
        recording.chunk_hashes = list(hashes)
        world.state = state
        return recording

    def write(self, frames: npt.NDArray[np.uint8], state: WorldState) -> None:
        """Add the frames (n,H,W,3) of a chunk, and now and then save the `state` after it.

        Raises:
            OSError, av.FFmpegError: the chunk cannot be written; what was there before still plays.
            InputError: the world cannot be saved.
        """
        self.video.append(frames)
        self.chunk_hashes.append(frames_sha256(frames))
        if self._save_every and state.chunk % self._save_every == 0:
            self._save(state)

    def _save(self, state: WorldState) -> None:
        world = self._world
        notes = {
            "made_from": _made_from(state, self._conditions, self.video.fps),
            "path_sha256": _path_hash(self._conditions, world.num_frames_after(state.chunk)),
            "chunks_sha256": self.chunk_hashes,
            "video_bytes": self.video.nbytes,
        }
        save_state(self.files.world, world.pipe, world.plan, state, notes)

    def describe(self, timings: Mapping[str, float], request: Mapping[str, Any] | None = None) -> None:
        """Write the description beside the video, which is complete; arguments as of `write_sidecar`.

        The pixels are hashed chunk by chunk, because nobody has all of them.

        Raises:
            InputError: the place cannot be written.
        """
        world, conditions = self._world, self._conditions
        settings = world.pipe.describe(conditions, world.state.seed) | {"stream": asdict(world.plan)}
        pixels = {"chunks_sha256": self.chunk_hashes}
        size = conditions.height, conditions.width
        with staged(self.files.sidecar.parent) as folder:
            path = folder / self.files.sidecar.name
            write_description(path, size, self.video.fps, settings, conditions.c2w, pixels, timings, request)

    def close(self) -> None:
        """The video plays, complete or not; without a single frame it is taken away."""
        self.video.close()
        if self.video.chunks == 0:
            with suppress(OSError):
                self.files.video.unlink()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _remove(*paths: Path) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"'{path}' cannot be removed ({error.strerror or error}).") from error


def _made_from(state: WorldState, conditions: Conditions, fps: int) -> dict[str, Any]:
    """What must be the same for a video to be gone on with."""
    return {
        "seed": state.seed,
        "prompt": conditions.prompt,
        "negative prompt": conditions.negative_prompt,
        "image": hashlib.sha256(conditions.image.contiguous().numpy().data).hexdigest()[:16],
        "frame rate": fps,
    }


def _check_same(found: Any, wanted: Mapping[str, Any], path: Path) -> None:
    for what, value in wanted.items():
        other = found.get(what) if isinstance(found, dict) else None
        if other != value:
            raise InputError(f"world '{path}' was made with the {what} {other!r}, not {value!r}; give that to resume.")


def _path_hash(conditions: Conditions, frames: int) -> str:
    """Of the cameras of the first so many frames."""
    digest = hashlib.sha256()
    for cameras in (conditions.c2w, conditions.intrinsics):
        digest.update(cameras[:frames].contiguous().numpy().data)
    return digest.hexdigest()
