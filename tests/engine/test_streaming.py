"""A path streamed into a file has the frames of single steps, goes on after any end, and names what failed."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from sana_wm.engine.conditions import Conditions
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.mp4 import as_picture
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.preprocess import check_request
from sana_wm.engine.recording import Recording, StreamFiles
from sana_wm.engine.sidecar import frames_sha256
from sana_wm.engine.streaming import check_length, stream_video
from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.models.config import ChunkSettings, StreamSettings
from tests.engine.test_growing_mp4 import files_no_larger_than, played
from tests.engine.test_world import own_pipe
from tests.engine.tiny import picture

FAST = StreamSettings(timesteps=(1000.0, 500.0, 0.0))
ACTION = "w-24,dw-12,none-12,sa-24,i-24"
CHUNKS = 4


def conditions_of(pipe: SanaWMPipeline, action: str = ACTION, **changes: Any) -> Conditions:
    request = check_request(**{"image": picture(), "prompt": "a street", "action": action, "fov": 70.0} | changes)
    return pipe.prepare(request, len(request.c2w))


def world_of(pipe: SanaWMPipeline, conditions: Conditions, **changes: Any) -> World:
    return World.of(pipe, conditions, **{"plan": FAST, "seed": 3} | changes)


def streamed(pipe: SanaWMPipeline, folder: Path, action: str = ACTION, **changes: Any) -> Recording:
    conditions = conditions_of(pipe, action)
    world = world_of(pipe, conditions, **changes)
    with Recording.begin(world, conditions, StreamFiles.of(folder, "a"), 16) as recording:
        stream_video(world, conditions, recording)
    return recording


def steps(pipe: SanaWMPipeline) -> list[np.ndarray]:
    world = World.begin(pipe, picture(), "a street", fov=70.0, seed=3, plan=FAST)
    return [world.step(keys) for keys in ("w", "dw-12,none-12", "sa", "i")]


def test_a_streamed_path_and_single_steps_give_the_same_frames(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    recording = streamed(pipe, tmp_path)
    frames = steps(pipe)
    assert recording.chunk_hashes == [frames_sha256(chunk) for chunk in frames]
    seen, _ = played(tmp_path / "a.mp4")
    assert seen.shape == np.concatenate(frames).shape


def test_the_file_plays_after_every_chunk(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    conditions = conditions_of(pipe)
    world, counts = world_of(pipe, conditions), []
    with Recording.begin(world, conditions, StreamFiles.of(tmp_path, "a"), 16) as recording:
        write = recording.write

        def write_and_play(*arguments: Any) -> None:
            write(*arguments)
            counts.append(len(played(tmp_path / "a.mp4")[0]))

        recording.write = write_and_play  # type: ignore[method-assign]
        stream_video(world, conditions, recording)
    assert counts == [25, 49, 73, 97]


def test_the_saved_world_is_one_to_walk_on_in(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    recording = streamed(pipe, tmp_path, "w-24,dw-24")
    world = World.load(pipe, recording.files.world)
    assert (world.chunk, world.num_frames) == (2, 49)
    live = World.begin(pipe, picture(), "a street", fov=70.0, seed=3, plan=FAST)
    for keys in ("w", "dw"):
        live.step(keys)
    poses = torch.eye(4).repeat(24, 1, 1)
    assert np.array_equal(world.step(poses=poses), live.step(poses=poses))


@pytest.mark.parametrize("after", [1, 3])
def test_a_video_that_was_stopped_goes_on_as_the_same_file(pipe: SanaWMPipeline, tmp_path: Path, after: int) -> None:
    whole = streamed(pipe, tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    conditions, files = conditions_of(pipe), StreamFiles.of(tmp_path / "parts", "a")
    world = world_of(pipe, conditions)
    before = threading.active_count()
    with Recording.begin(world, conditions, files, 16) as recording, pytest.raises(KeyboardInterrupt):
        stream_video(world, conditions, recording, stop)
    assert threading.active_count() == before
    assert len(played(files.video)[0]) >= 1 + 24 * after

    world = world_of(own_pipe(), conditions)
    with Recording.resume(world, conditions, files, 16) as recording:
        assert after <= world.chunk <= CHUNKS
        stream_video(world, conditions, recording)
        recording.describe({})
    assert recording.chunk_hashes == whole.chunk_hashes
    assert files.video.read_bytes() == whole.files.video.read_bytes()
    described = json.loads(files.sidecar.read_text())
    assert described["chunks_sha256"] == whole.chunk_hashes
    assert described["video"]["num_frames"] == 97


def test_a_finished_video_can_be_made_longer(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    longer = streamed(pipe, tmp_path / "longer")
    short = streamed(pipe, tmp_path / "short", "w-24,dw-12,none-12")
    short.describe({})
    conditions = conditions_of(pipe)
    world = world_of(pipe, conditions)
    with Recording.resume(world, conditions, short.files, 16) as recording:
        assert not short.files.sidecar.exists()  # it would describe another video
        stream_video(world, conditions, recording)
    assert short.files.video.read_bytes() == longer.files.video.read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action": "s-96"}, "another camera path"),
        ({"action": "w-24"}, "has 49 frames already; 25 are asked for"),
        ({"prompt": "a forest"}, "the prompt 'a street', not 'a forest'"),
        ({"fov": 80.0}, "another camera path"),
        ({"image": np.zeros((32, 48, 3), np.uint8)}, "image"),
    ],
    ids=str,
)
def test_a_video_of_something_else_is_not_gone_on_with(
    pipe: SanaWMPipeline, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    recording = streamed(pipe, tmp_path, "w-24,dw-24")
    before = recording.files.video.read_bytes()
    conditions = conditions_of(pipe, **{"action": "w-24,dw-24,w-24"} | changes)
    with pytest.raises(InputError, match=words):
        Recording.resume(world_of(pipe, conditions), conditions, recording.files, 16)
    assert recording.files.video.read_bytes() == before


def test_other_numbers_are_not_gone_on_with(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    files = streamed(pipe, tmp_path, "w-24").files
    conditions = conditions_of(pipe)
    for changes, fps, words in (
        ({"seed": 4}, 16, "seed 3, not 4"),
        ({}, 24, "frame rate 16, not 24"),
        ({"plan": replace(FAST, chunks=ChunkSettings(window=1))}, 16, "other sampling settings"),
    ):
        with pytest.raises(InputError, match=words):
            Recording.resume(world_of(pipe, conditions, **changes), conditions, files, fps)
    files.video.write_bytes(b"")
    with pytest.raises(InputError, match="has 0 bytes"):
        Recording.resume(world_of(pipe, conditions), conditions, files, 16)
    files.world.unlink()
    with pytest.raises(InputError, match="no saved world"):
        Recording.resume(world_of(pipe, conditions), conditions, files, 16)


def test_saving_can_be_rarer_or_never(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    for every, chunks in ((0, None), (3, 3)):
        conditions, files = conditions_of(pipe), StreamFiles.of(tmp_path, f"every{every}")
        world = world_of(pipe, conditions)
        with Recording.begin(world, conditions, files, 16, every) as recording:
            stream_video(world, conditions, recording)
        assert (World.load(pipe, files.world).chunk if files.world.exists() else None) == chunks


@pytest.mark.parametrize("stage", ["denoise", "decode"])
def test_numbers_that_are_not_finite_stop_the_stream_after_what_was_good(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = own_pipe()
    part = {"denoise": pipe.transformer.final_layer, "decode": pipe.codec.decoder}[stage]
    calls: list[int] = []
    a_chunk = {"denoise": len(FAST.timesteps), "decode": 1}[stage]  # the steps and the call that remembers

    def spoil(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        calls.append(1)
        return output * torch.nan if len(calls) > 2 * a_chunk else None

    part.register_forward_hook(spoil)
    before = threading.active_count()
    with pytest.raises(GenerationError, match=f"stage {stage}, chunk 2: "):
        streamed(pipe, tmp_path)
    assert threading.active_count() == before
    assert len(played(tmp_path / "a.mp4")[0]) == 49
    assert World.load(pipe, tmp_path / "a.world.safetensors").chunk == 2


def test_a_full_disk_stops_the_stream_and_leaves_a_video(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    whole = streamed(pipe, tmp_path / "whole").files.video.stat().st_size
    conditions, files = conditions_of(pipe), StreamFiles.of(tmp_path, "a")
    world = world_of(pipe, conditions)
    full = files_no_larger_than(whole - 200)
    error = pytest.raises(GenerationError, match="stage write, chunk 3: File too large")
    with Recording.begin(world, conditions, files, 16, save_every=0) as recording, full, error:
        stream_video(world, conditions, recording)
    assert len(played(files.video)[0]) == 73
    assert world.chunk == 3


def test_a_world_that_cannot_be_saved_stops_the_stream(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    conditions, files = conditions_of(pipe), StreamFiles.of(tmp_path, "a")
    world = world_of(pipe, conditions)
    error = pytest.raises(GenerationError, match=r"stage write, chunk 0: .*too large")
    with Recording.begin(world, conditions, files, 16) as recording, files_no_larger_than(30_000), error:
        stream_video(world, conditions, recording)
    assert len(played(files.video)[0]) == 25


def test_an_encoder_that_dies_stops_the_stream_and_leaves_a_video(
    pipe: SanaWMPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures: list[int] = []

    def dies(pixels: np.ndarray) -> av.VideoFrame:
        pictures.append(1)
        if len(pictures) > 40:  # in the middle of chunk 1
            raise av.error.ExternalError(542398533, "Generic error in an external library")
        return as_picture(pixels)

    monkeypatch.setattr("sana_wm.engine.growing_mp4.as_picture", dies)
    with pytest.raises(GenerationError, match=r"stage write, chunk 1: .*Generic error"):
        streamed(pipe, tmp_path)
    assert len(played(tmp_path / "a.mp4")[0]) == 25
    assert World.load(pipe, tmp_path / "a.world.safetensors").chunk == 1


def test_a_stream_that_fails_at_once_leaves_no_empty_video(tmp_path: Path) -> None:
    pipe = own_pipe()
    conditions, files = conditions_of(pipe), StreamFiles.of(tmp_path, "a")
    world = world_of(pipe, conditions)
    next(pipe.transformer.final_layer.parameters()).data.fill_(float("nan"))
    with Recording.begin(world, conditions, files, 16) as recording, pytest.raises(GenerationError):
        stream_video(world, conditions, recording)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_does_not_wait_for_the_chunk_that_is_being_denoised(tmp_path: Path) -> None:
    pipe, calls = own_pipe(), []

    def slow(module: Any, inputs: Any, output: Any) -> None:
        calls.append(1)
        threading.Event().wait(0.01)

    pipe.transformer.final_layer.register_forward_hook(slow)
    conditions = conditions_of(pipe)
    steps = 50
    world = world_of(pipe, conditions, plan=replace(FAST, timesteps=tuple(range(steps, -1, -1))))

    def interrupt(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    recorded = Recording.begin(world, conditions, StreamFiles.of(tmp_path, "a"), 16)
    with recorded as recording, pytest.raises(KeyboardInterrupt):
        stream_video(world, conditions, recording, interrupt)
    # The first chunk, what the second was at when that had been written, and not all the rest of it.
    assert steps < len(calls) < 2 * steps


def test_a_slow_disk_holds_up_the_model(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    conditions = conditions_of(pipe, "w-192")
    world, made = world_of(pipe, conditions), []
    handle = pipe.codec.decoder.register_forward_hook(lambda *arguments: made.append(1))
    with Recording.begin(world, conditions, StreamFiles.of(tmp_path, "a"), 16, save_every=0) as recording:
        write, ahead = recording.write, []

        def slow(*arguments: Any) -> None:
            threading.Event().wait(0.3)
            ahead.append(len(made) - recording.video.chunks)
            write(*arguments)

        recording.write = slow  # type: ignore[method-assign]
        stream_video(world, conditions, recording)
    handle.remove()
    assert len(made) == 8
    assert max(ahead) <= 3  # the one being written, one that waits, one decoded that wants to wait


def test_a_path_shorter_than_a_chunk_is_refused() -> None:
    with pytest.raises(InputError, match="at least 25 frames; 81 are asked for and the camera path has 24 poses"):
        check_length(81, 24, 24)
    with pytest.raises(InputError, match="12 are asked for"):
        check_length(12, 100, 24)
    check_length(13, 25, 24)
