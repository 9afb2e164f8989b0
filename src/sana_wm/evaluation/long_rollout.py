"""A long video that is streamed through held-out scenes and measured chunk by chunk: does it hold for ten minutes?"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sana_wm.engine.failure import DeviceFullError, GenerationError
from sana_wm.engine.named_stage import named_stage
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.progress import Progress
from sana_wm.engine.staging import staged
from sana_wm.engine.stream_plan import plan_stream
from sana_wm.engine.world import World
from sana_wm.engine.world_file import fingerprint
from sana_wm.errors import InputError
from sana_wm.evaluation.chunk_look import look, moves, stillness
from sana_wm.evaluation.held_out import clip_seed
from sana_wm.evaluation.nano_marks import environment
from sana_wm.evaluation.peak_memory import PeakMemory
from sana_wm.evaluation.rollout_files import RolloutFiles
from sana_wm.evaluation.rollout_marks import clock, summarize, together
from sana_wm.evaluation.rollout_scene import RANDOM, LongScene, long_scene
from sana_wm.evaluation.sheets import write_sheet
from sana_wm.evaluation.turning import turns
from sana_wm.models.config import StreamSettings

RESULT = "rollout.json"
SHEET_FRAMES, SHEET_COLUMNS = 60, 10
TURNS_EVERY, FIRST_TURNS = 60.0, 9.0
"""Seconds between chunks after which both turns are tried, and when that is first."""


@dataclass(frozen=True)
class RolloutSettings:
    """What is streamed: so many held-out scenes, each for so long; noise follows from `seed` and the scene's name.

    Attributes:
        steps: None is the model's own. keys: see :func:`~sana_wm.evaluation.rollout_scene.long_scene`.
        save_every: chunks between saved worlds, which a killed run makes again.
    """

    seconds: float = 60.0
    scenes: int = 1
    split: str = "test"
    steps: int | None = None
    seed: int = 42
    keys: str = RANDOM
    save_every: int = 10

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise InputError(f"the length is {self.seconds:g} s; it must be above 0.")
        for name in ("scenes", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be at least 0.")


def measure_rollouts(
    pipe: SanaWMPipeline, settings: RolloutSettings, out: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Stream and measure; the result, ready for JSON and `rollout_marks.markdown`, is also written to `out`.

    What an earlier call has done there is not done again, also if that was asked for another length.

    Args:
        progress: called with ("scene 0", chunks done, chunks).

    Raises:
        InputError: an argument is wrong, the model cannot stream, or `out` holds something else.
        DeviceFullError: the model does not fit; GenerationError: the disk is full. A model that fails is a result.
    """
    plan = plan_stream(pipe.settings, settings.steps)
    pipe.codec.check_streams()
    frames_a_chunk, fps = plan.chunks.size * pipe.codec.temporal_stride, pipe.settings.fps
    chunks = max(1, round(settings.seconds * fps / frames_a_chunk))
    drawn = [long_scene(settings.split, i, 1 + chunks * frames_a_chunk, settings.keys) for i in range(settings.scenes)]
    memory = PeakMemory(pipe.device)
    scenes = []
    for index, scene in enumerate(drawn):
        rollout = _Rollout(pipe, plan, scene, clip_seed(scene.name, settings.seed))
        with RolloutFiles(out / f"scene_{index:03d}", rollout.made_from()) as files:
            report = _reporter(progress, f"scene {index}", chunks)
            rollout.stream(files, chunks, settings.save_every, memory, report)
            rows = _until(files.rows(), chunks)
            found = summarize(rows, chunks, frames_a_chunk / fps)
            sheet = out / f"sheet_{index:03d}.png"
            rollout.draw(sheet, files, found["chunks"], frames_a_chunk / fps)
        farthest = float(scene.c2w[:, :3, 3].norm(dim=-1).max())
        named = {"name": scene.name, "caption": scene.drawn.caption, "seed": rollout.seed, "farthest": farthest}
        scenes.append({**named, **found})
    result = {
        "format": "sana-wm long rollout",
        "version": 2,
        "environment": environment(pipe.device),
        "settings": {
            "model": pipe.name, **asdict(settings), "chunks": chunks, "frames_a_chunk": frames_a_chunk, "fps": fps,
            "height": pipe.settings.height, "width": pipe.settings.width, "stream": asdict(plan),
            "dtype": str(pipe.transformer.dtype).removeprefix("torch."), "memory": memory.source,
        },
        "passed": together(scenes),
        "scenes": scenes,
    }  # fmt: skip
    with staged(out) as folder:
        (folder / RESULT).write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return result


class _Rollout:
    """One video through one scene."""

    def __init__(self, pipe: SanaWMPipeline, plan: StreamSettings, scene: LongScene, seed: int) -> None:
        self.pipe, self.plan, self.scene, self.seed = pipe, plan, scene, seed
        self.size = pipe.settings.height, pipe.settings.width

    def made_from(self) -> dict[str, Any]:
        """What must be the same for a video to be gone on with; its length may differ."""
        pipe = self.pipe
        return {
            "scene": self.scene.name,
            "noise seed": self.seed,
            "model": pipe.name,
            "weights": fingerprint(pipe),
            "number format": str(pipe.transformer.dtype).removeprefix("torch."),
            "device": environment(pipe.device)["device_name"],
            "picture size": [*self.size],
            "sampling": asdict(self.plan),
        }

    def stream(
        self, files: RolloutFiles, chunks: int, save_every: int, memory: PeakMemory, report: Callable[[int], None]
    ) -> None:
        """Make what is missing of so many chunks and write down what each was like."""
        rows = files.rows()
        if len(rows) >= chunks or (rows and "error" in rows[-1]):
            report(min(chunks, len(rows)))
            return
        process = 1 + (rows[-1]["process"] if rows else 0)
        world, last = files.resume(self._begin(files))
        moving = moves(self.scene.c2w)
        report(world.chunk)
        while world.chunk < chunks:
            chunk, rows_of_path = world.chunk + 1, slice(world.num_frames, world.num_frames + world.frames_a_step)
            memory.begin()
            begin = time.perf_counter()
            try:
                frames = world.step(poses=self.scene.c2w[rows_of_path])
                seconds = time.perf_counter() - begin
                peak, held = memory.read()
                turned = turns(world) if self._turns(chunk) else None
            except DeviceFullError:
                raise
            except GenerationError as error:
                files.append({"chunk": chunk, "process": process, "finite": False, "error": str(error)})
                return
            if last is None:
                last, frames = frames[0], frames[1:]
            shown = torch.from_numpy(frames).to(self.pipe.device).permute(0, 3, 1, 2)
            before = torch.from_numpy(last).to(self.pipe.device).permute(2, 0, 1)
            still = stillness(before, shown, moving[rows_of_path.start - 1 : rows_of_path.stop - 1])
            last = frames[-1].copy()
            row = {
                "chunk": chunk, "process": process, "finite": True, "seconds": seconds, "peak_bytes": peak,
                "held_bytes": held, "state_bytes": world.state.nbytes, **look(shown), **still,
                "truth": self._truth(rows_of_path), "turns": turned,
            }  # fmt: skip
            with named_stage("write", chunk - 1):
                files.keep_frame(chunk, last)  # before the row: a chunk that is counted has its picture
                files.append(row)
            if chunk % save_every == 0 or chunk == chunks:
                files.save(world, last)
            report(chunk)

    def _begin(self, files: RolloutFiles) -> World:
        pictures, lenses = self.scene.render(torch.tensor([0]), self.size, self.pipe.device)
        picture = pictures[0].permute(1, 2, 0).contiguous().numpy()
        files.keep_frame(0, picture)
        caption = self.scene.drawn.caption
        return World.begin(self.pipe, picture, caption, intrinsics=lenses[0], seed=self.seed, plan=self.plan)

    def _truth(self, frames: slice) -> dict[str, float]:
        """How the true place looks in the middle one of these frames of the path."""
        middle = torch.tensor([(frames.start + frames.stop) // 2])
        return look(self.scene.render(middle, self.size, self.pipe.device)[0])

    def _turns(self, chunk: int) -> bool:
        """Whether turns are tried after this chunk."""
        chunks = self.plan.chunks.size * self.pipe.codec.temporal_stride / self.pipe.settings.fps
        return chunk == round(FIRST_TURNS / chunks) or chunk % max(1, round(TURNS_EVERY / chunks)) == 0

    def draw(self, path: Path, files: RolloutFiles, chunks: int, seconds_a_chunk: float) -> None:
        """The given picture and the last frames of chunks, evenly spread, under what there is to see in truth."""
        chosen = torch.linspace(0, chunks, min(SHEET_FRAMES, chunks + 1)).round().long()
        made = files.frames(chosen.tolist())
        frames_a_chunk = self.plan.chunks.size * self.pipe.codec.temporal_stride
        height, width = made.shape[-2:]
        truth, _ = self.scene.render(chosen * frames_a_chunk, (height, width), self.pipe.device)
        blocks = []
        for place in range(0, len(chosen), SHEET_COLUMNS):
            part = slice(place, place + SHEET_COLUMNS)
            title = f"{self.scene.name}: {self.scene.drawn.caption}" if place == 0 else ""
            labels = [clock(chunk * seconds_a_chunk) for chunk in chosen[part].tolist()]
            blocks.append((title, labels, [("truth", truth[part]), ("generated", made[part])]))
        with staged(path.parent) as folder:
            write_sheet(folder / path.name, blocks)


def _until(rows: list[dict[str, Any]], chunks: int) -> list[dict[str, Any]]:
    """The first so many chunks, of which the last may be an error."""
    return [row for row in rows if row["chunk"] <= chunks]


def _reporter(progress: Progress | None, stage: str, total: int) -> Callable[[int], None]:
    def report(done: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    return report
