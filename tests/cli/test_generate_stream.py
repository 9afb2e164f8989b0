"""`sana-wm generate --stream`: a file that plays while it grows, plays after a kill, and then goes on the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sana_wm.cli.bars import Bars
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.sidecar import frames_sha256
from sana_wm.engine.world import World
from tests.cli.conftest import Run
from tests.engine.test_growing_mp4 import played

FILES = ["street.json", "street.mp4", "street.world.safetensors"]
ACTION = "w-60,dw-60,a-48"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def flags(model: Path, image: Path, tmp_path: Path) -> list[object]:
    """A complete request of 7 chunks, into the folder out."""
    request = ["--image", image, "--prompt", "a street", "--fov", 70, "--model", model, "--device", "cpu"]
    return ["generate", *request, "--action", ACTION, "--num_frames", 169, "--output_dir", tmp_path / "out", "--stream"]


def test_a_streamed_request_becomes_three_files_and_says_so(run: Run, flags: list[object], tmp_path: Path) -> None:
    result = run(*flags, "--num_frames", 60, "--step", 2, "--flow_shift", 5.0, "--seed", 9, "--fps", 24)
    assert result.code == 0, result.err
    assert "49 frames of 48x32 at 24 fps" in result.out
    assert all(str(tmp_path / "out" / name) in result.out for name in FILES)
    assert names(tmp_path / "out") == FILES
    frames, times = played(tmp_path / "out" / "street.mp4")
    assert len(frames) == 49
    assert times[-1] == pytest.approx(2.0)
    content = json.loads((tmp_path / "out" / "street.json").read_text())
    assert content["video"] == {"num_frames": 49, "height": 32, "width": 48, "fps": 24, "seconds": 2.042}
    assert content["settings"]["seed"] == 9
    assert len(content["settings"]["stream"]["timesteps"]) == 3
    assert content["settings"]["frames"] == {"requested": 60, "available": 169, "used": 49}
    assert content["request"]["stream"] is True
    assert {"load", "encode", "stream", "denoise", "decode", "write"} <= content["timings_seconds"].keys()
    assert len(content["chunks_sha256"]) == 2


def test_the_command_and_a_world_give_the_same_frames(
    run: Run, flags: list[object], model: Path, image: Path, tmp_path: Path
) -> None:
    assert run(*flags, "--action", "w-24,dw-24", "--seed", 3).code == 0
    content = json.loads((tmp_path / "out" / "street.json").read_text())
    world = World.begin(SanaWMPipeline.from_pretrained(model, device="cpu"), image, "a street", fov=70.0, seed=3)
    assert [frames_sha256(world.step(keys)) for keys in ("w", "dw")] == content["chunks_sha256"]


def test_a_killed_command_leaves_a_video_and_resumes_to_the_same_one(
    run: Run, flags: list[object], tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    assert run(*flags, "--output_dir", whole).code == 0
    command = [sys.executable, "-m", "sana_wm.cli.main", *map(str, flags)]
    video, world = tmp_path / "out" / "street.mp4", tmp_path / "out" / "street.world.safetensors"
    threads = os.environ | {"OMP_NUM_THREADS": "1"}  # as the tests themselves; another number rounds in other ways
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=threads)
    try:
        deadline = time.monotonic() + 60
        while not world.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "out" / "street.json").exists()
    count = len(played(video)[0])
    assert count >= 25
    assert count % 24 == 1

    result = run(*flags, "--resume")
    assert result.code == 0, result.err
    assert video.read_bytes() == (whole / "street.mp4").read_bytes()
    hashes = [json.loads((folder / "street.json").read_text())["chunks_sha256"] for folder in (whole, video.parent)]
    assert hashes[0] == hashes[1]


def test_resuming_needs_the_same_request(run: Run, flags: list[object], tmp_path: Path) -> None:
    assert run(*flags, "--num_frames", 25).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for changes, word in (
        (["--seed", 7], "seed"),
        (["--prompt", "a forest"], "prompt"),
        (["--action", "s-96"], "camera path"),
        (["--step", 3], "sampling"),
        (["--name", "other"], "other.world.safetensors"),
    ):
        result = run(*flags, "--resume", *changes)
        assert result.code == 2
        assert word in result.err
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert run(*flags, "--resume", "--num_frames", 49).code == 0  # a longer video of the same is no other request
    assert len(played(tmp_path / "out" / "street.mp4")[0]) == 49


def test_a_video_begun_anew_does_not_keep_the_world_of_the_old_one(
    run: Run, flags: list[object], tmp_path: Path
) -> None:
    assert run(*flags, "--num_frames", 49).code == 0
    assert run(*flags, "--num_frames", 25, "--seed", 1, "--save_every", 0).code == 0
    assert names(tmp_path / "out") == ["street.json", "street.mp4"]
    assert len(played(tmp_path / "out" / "street.mp4")[0]) == 25


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (["--overlay"], "--overlay"),
        (["--flow_shift", 3], "--flow_shift"),
        (["--save_every", -1], "save_every is -1"),
        (["--num_frames", 9], "at least 25 frames"),
        (["--action", "w-20"], "21 poses"),
        (["--resume"], "no saved world"),
    ],
    ids=str,
)
def test_flags_that_do_not_go_together_end_with_2_and_nothing_on_disk(
    run: Run, flags: list[object], tmp_path: Path, extra: list[object], word: str
) -> None:
    result = run(*flags, *extra)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert word in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("extra", [["--resume"], ["--save_every", 2]], ids=str)
def test_flags_of_streams_need_one(run: Run, flags: list[object], tmp_path: Path, extra: list[object]) -> None:
    result = run(*(flag for flag in flags if flag != "--stream"), *extra)
    assert result.code == 2
    assert "--stream" in result.err
    assert not (tmp_path / "out").exists()


def test_a_stage_that_fails_ends_with_1_and_a_video_of_what_was_made(
    run: Run, flags: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = SanaWMPipeline.from_pretrained

    def damaged(*args: Any, **kwargs: Any) -> SanaWMPipeline:
        pipe, calls = load(*args, **kwargs), []

        def spoil(module: Any, inputs: Any, output: Any) -> Any:
            calls.append(1)
            return output * float("nan") if len(calls) > 2 else None

        pipe.codec.decoder.register_forward_hook(spoil)
        return pipe

    monkeypatch.setattr(SanaWMPipeline, "from_pretrained", damaged)
    result = run(*flags)
    assert result.code == 1
    assert result.err == "error: stage decode, chunk 2: pixels are not finite; is the codec damaged?\n"
    assert len(played(tmp_path / "out" / "street.mp4")[0]) == 49
    monkeypatch.undo()
    assert run(*flags, "--resume").code == 0


def test_ctrl_c_ends_with_130_and_a_video_of_what_was_made(
    run: Run, flags: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(bars: Bars, stage: str, done: int, total: int) -> None:
        if stage == "stream" and done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bars, "__call__", interrupt)
    result = run(*flags)
    assert result.code == 130
    assert result.err == "error: interrupted\n"
    assert len(played(tmp_path / "out" / "street.mp4")[0]) >= 49
