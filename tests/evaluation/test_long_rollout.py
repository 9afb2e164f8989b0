"""Long videos are measured as they are: what stands still or greys out is told, and a stopped run loses nothing."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.errors import InputError
from sana_wm.evaluation.chunk_look import look, moves, stillness
from sana_wm.evaluation.long_rollout import RolloutSettings, measure_rollouts
from sana_wm.evaluation.peak_memory import PeakMemory
from sana_wm.evaluation.rollout_marks import markdown, summarize
from sana_wm.evaluation.rollout_scene import long_scene
from sana_wm.geometry.actions import rollout
from tests.engine.tiny import tiny_components

CPU = torch.device("cpu")
CHUNK_SECONDS = 1.5
OF_THE_MACHINE = ("seconds", "peak_bytes", "held_bytes", "process")


def tiny_pipe() -> SanaWMPipeline:
    parts = tiny_components()
    return SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings, name="tiny")


def settings(chunks: int, **changes: Any) -> RolloutSettings:
    return RolloutSettings(**{"seconds": CHUNK_SECONDS * chunks, "steps": 1, "save_every": 2, **changes})


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "scene_000" / "chunks.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][1:]


def of_the_video(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in OF_THE_MACHINE} for row in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five chunks at once."""
    folder = tmp_path_factory.mktemp("whole")
    measure_rollouts(tiny_pipe(), settings(5), folder)
    return folder


def noise(seed: int, frames: int = 24) -> Tensor:
    """A picture of noise that shifts by a pixel a frame, (F,3,16,24) uint8."""
    picture = np.random.default_rng(seed).integers(0, 256, (3, 16, 24), dtype=np.uint8)
    return torch.from_numpy(np.stack([np.roll(picture, i, axis=2) for i in range(frames)]))


def described(chunks: list[Tensor], moving: bool = True, turned: float = 1.0) -> dict[str, Any]:
    """The summary of a video of these chunks, the last of which turned so far."""
    found: list[dict[str, Any]] = []
    before = chunks[0][-1]
    for number, frames in enumerate(chunks, start=1):
        still = stillness(before, frames, torch.full((len(frames),), moving))
        machine = {"chunk": number, "process": 1, "seconds": 0.1, "peak_bytes": 1000, "state_bytes": 10}
        turns = {"left": turned, "right": turned} if number == len(chunks) else None
        truth = {"truth": look(noise(0)), "turns": turns}
        found.append({**machine, **look(frames), **still, **truth})
        before = frames[-1]
    return summarize(found, len(chunks), CHUNK_SECONDS)


def failed(summary: dict[str, Any]) -> set[str]:
    return {mark["what"] for mark in summary["marks"] if mark["passed"] is False}


def test_every_chunk_is_measured_and_the_sheet_shows_the_video(whole: Path) -> None:
    found = rows(whole)
    assert [row["chunk"] for row in found] == [1, 2, 3, 4, 5]
    assert all(row["seconds"] > 0 and row["peak_bytes"] >= row["held_bytes"] > 0 for row in found)
    assert len({row["state_bytes"] for row in found[2:]}) == 1
    result = json.loads((whole / "rollout.json").read_text())
    (scene,) = result["scenes"]
    assert result["environment"]["device"] == "cpu"
    assert scene["chunks"] == result["settings"]["chunks"] == 5
    assert [window["chunks"] for window in scene["windows"]] == [5]
    assert result["passed"] is not True  # five chunks say nothing of memory
    assert "| least contrast of 10 s |" in markdown(result)
    with Image.open(whole / "sheet_000.png") as sheet:
        assert sheet.width > 6 * 48
        assert sheet.height > 2 * 32


def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_happened(whole: Path, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_rollouts(tiny_pipe(), settings(5), tmp_path, stop)
    with (tmp_path / "scene_000" / "chunks.jsonl").open("a") as file:
        file.write('{"chunk": 4, "sec')  # as a killed process leaves it
    seen: list[int] = []
    measure_rollouts(tiny_pipe(), settings(5), tmp_path, lambda stage, done, total: seen.append(done))
    assert seen == [2, 3, 4, 5]  # chunk 3 came after the last saved world
    assert [row["process"] for row in rows(tmp_path)] == [1, 1, 2, 2, 2]
    assert of_the_video(rows(tmp_path)) == of_the_video(rows(whole))
    assert (tmp_path / "sheet_000.png").read_bytes() == (whole / "sheet_000.png").read_bytes()


def test_a_longer_video_goes_on_where_a_shorter_one_ended(whole: Path, tmp_path: Path) -> None:
    measure_rollouts(tiny_pipe(), settings(3), tmp_path)
    assert of_the_video(rows(tmp_path)) == of_the_video(rows(whole))[:3]
    measure_rollouts(tiny_pipe(), settings(5), tmp_path)
    assert of_the_video(rows(tmp_path)) == of_the_video(rows(whole))
    seen: list[int] = []
    shorter = measure_rollouts(tiny_pipe(), settings(2), tmp_path, lambda stage, done, total: seen.append(done))
    assert seen == [2]
    assert shorter["scenes"][0]["chunks"] == 2


@pytest.mark.parametrize(("change", "named"), [({"seed": 1}, "noise seed"), ({"steps": 2}, "sampling")])
def test_chunks_of_another_video_are_not_taken_for_these(whole: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        measure_rollouts(tiny_pipe(), settings(5, **change), whole)


def test_a_world_that_is_not_that_of_its_chunks_is_refused(tmp_path: Path) -> None:
    measure_rollouts(tiny_pipe(), settings(2), tmp_path)
    path = tmp_path / "scene_000" / "chunks.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(InputError, match="is damaged"):
        measure_rollouts(tiny_pipe(), settings(3), tmp_path)


def test_a_model_that_breaks_is_a_result(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    pipe.transformer.final_layer.linear.weight.data.fill_(float("nan"))
    for _ in range(2):  # the second time it is known
        result = measure_rollouts(pipe, settings(2), tmp_path)
        assert result["passed"] is False
        assert "stage denoise, chunk 0" in result["scenes"][0]["error"]
        assert len(rows(tmp_path)) == 1
    assert "**no**" in markdown(result)
    json.dumps(result, allow_nan=False)


def test_a_video_that_moves_and_holds_is_fine() -> None:
    assert failed(described([noise(0)] * 14)) == set()


def test_a_video_that_no_longer_turns_is_told() -> None:
    assert failed(described([noise(0)] * 14, turned=0.2)) == {"turns go"}
    assert failed(described([noise(0)] * 14, turned=0.6)) == set()


def test_a_frozen_video_is_told() -> None:
    still = noise(0)[-1:].expand(24, -1, -1, -1)
    found = described([noise(0)] * 7 + [still] * 7)
    assert failed(found) == {"chunks that stand still", "frames that stand still"}
    assert found["frozen"]["chunks"] == list(range(8, 15))
    assert failed(described([noise(0)] * 7 + [still] * 7, moving=False)) == set()


def test_a_video_that_greys_out_is_told() -> None:
    grey = (noise(0).float() / 8 + 112).to(torch.uint8)
    found = described([noise(0)] * 7 + [grey] * 7)
    assert failed(found) == {"least contrast of 10 s", "least sharpness of 10 s"}
    assert found["looks"]["contrast"]["least_over_first"] == pytest.approx(1 / 8, abs=0.02)
    # One colour that is not grey, but as empty.
    blue = torch.tensor([20, 40, 220], dtype=torch.uint8)[:, None, None]
    assert "least contrast of 10 s" in failed(described([noise(0)] * 7 + [noise(0) // 64 + blue] * 7))


def test_a_video_that_burns_in_is_seen_in_saturation_and_clipping() -> None:
    pale = noise(0) // 2 + 64
    burnt = torch.where(noise(0) > 128, 255, 0).to(torch.uint8)
    ranges = described([pale] * 7 + [burnt] * 7)["looks"]
    assert ranges["saturation"]["most_over_first"] > 1.5
    assert (ranges["clipped"]["first"], ranges["clipped"]["most"]) == (0.0, 1.0)


def of_memory(peaks: list[int], processes: list[int] | None = None) -> dict[str, Any]:
    processes = processes or [1] * len(peaks)
    truth = {"truth": look(noise(0)), "turns": None}
    looks = {**look(noise(0)), **truth, "change": 1.0, "moving": 24, "frozen": 0, "seconds": 0.1, "state_bytes": 10}
    found = [
        {"chunk": i + 1, "process": process, "peak_bytes": peak, **looks}
        for i, (peak, process) in enumerate(zip(peaks, processes, strict=True))
    ]
    return summarize(found, len(found), CHUNK_SECONDS)


def memory_mark(peaks: list[int], processes: list[int] | None = None) -> bool | None:
    marks = {mark["what"]: mark["passed"] for mark in of_memory(peaks, processes)["marks"]}
    return marks["peak memory of the last chunk"]


def test_memory_is_compared_with_the_tenth_chunk_of_the_same_process() -> None:
    warming = [500] * 9
    assert memory_mark([*warming, *[1000] * 390, 1009]) is True
    assert memory_mark([*warming, *range(1000, 1391)]) is False
    assert memory_mark([1000] * 10) is None
    assert memory_mark([1000] * 20 + [2000] * 20, [1] * 20 + [2] * 20) is True
    assert memory_mark([1000] * 20 + [2000] * 5, [1] * 20 + [2] * 5) is None


def test_growth_that_hides_in_noise_is_seen_in_medians() -> None:
    noisy = [1000 + 40 * (i % 3) for i in range(100)]
    assert of_memory(noisy)["memory"]["tens_over"] == pytest.approx(1, abs=0.001)
    growing = [peak + i for i, peak in enumerate(noisy)]
    assert of_memory(growing)["memory"]["tens_over"] > 1.05
    assert of_memory(noisy[:28])["memory"]["tens_over"] is None


def test_the_peak_of_one_piece_of_work_is_not_that_of_the_next() -> None:
    memory = PeakMemory(CPU)
    if "VmHWM" not in memory.source:
        pytest.skip("this system cannot begin the peak anew")
    memory.begin()
    with mmap.mmap(-1, 64 << 20) as work:  # goes back to the system when it ends, which what is allocated need not
        for page in range(0, len(work), mmap.PAGESIZE):
            work[page] = 1
        peak, held = memory.read()
        assert peak >= held > 64 << 20
    memory.begin()
    assert memory.read().peak < peak - (32 << 20)


def test_the_camera_moves_when_it_goes_or_turns() -> None:
    assert bool(moves(rollout("w-40"))[-20:].all())
    assert bool(moves(rollout("a-40"))[-20:].all())
    assert not bool(moves(rollout("none-40")).any())


def test_a_longer_path_begins_as_a_shorter_one_in_the_same_place() -> None:
    short, long = (long_scene("test", 0, frames) for frames in (49, 1201))
    assert torch.equal(long.c2w[:49], short.c2w)
    assert np.array_equal(long.drawn.c2w[:49], short.drawn.c2w)
    assert np.array_equal(long.drawn.surfaces, short.drawn.surfaces)
    assert long.drawn.caption == short.drawn.caption
    assert len(long.c2w) == 1201
    assert long_scene("test", 1, 49).drawn.caption != short.drawn.caption
    assert not torch.equal(long_scene("validation", 0, 49).c2w, short.c2w)


def test_keys_are_held_over_and_over() -> None:
    path = long_scene("test", 0, 97, "w-8,a-4").c2w
    assert torch.equal(path, rollout(",".join(["w-8,a-4"] * 8)))
    assert torch.equal(long_scene("test", 0, 49, "w").c2w, rollout("w-48"))


def test_trained_scenes_are_refused() -> None:
    with pytest.raises(InputError, match="'test' or 'validation'"):
        long_scene("train", 0, 49)
