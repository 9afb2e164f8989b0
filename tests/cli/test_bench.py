"""`sana-wm bench` times real passes and writes what it found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sana_wm.cli.bench import forward_lines, overlap_line, stream_line, train_lines
from sana_wm.engine.chunk_stages import ChunkStages
from sana_wm.evaluation.forward_floor import H100, PARTS, compared, forward_work
from sana_wm.evaluation.stream_speed import measure_overlap, measure_stream, overlap_warm_ups
from sana_wm.models.config import StreamSettings
from tests.cli.conftest import Run
from tests.engine.tiny import tiny_components
from tests.models.small import CONFIG


def test_a_forward_pass_is_timed_and_written_down(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "speed" / "forward.json"
    result = run("bench", "forward", "--latent_frames", "1,2", "--runs", "2", "--device", "cpu", "--out", out)
    assert result.code == 0, result.err
    found = json.loads(out.read_text())
    assert [shape["latent_frames"] for shape in found["shapes"]] == [1, 2]
    assert all(0 < shape["seconds"] <= shape["p90_seconds"] for shape in found["shapes"])
    assert "T=2 batch=1" in result.out


def test_a_training_step_is_timed_and_written_down(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "train.json"
    result = run("bench", "train", "--latent_frames", "2", "--runs", "1", "--device", "cpu", "--out", out)
    assert result.code == 0, result.err
    found = json.loads(out.read_text())
    assert found["format"] == "sana-wm training step speed"
    assert found["environment"]["device"] == "cpu"
    assert found["step"] == {
        "weights": "float32",
        "autocast": None,
        "average": "float32",
        "optimizer": "adamw",
        "checkpoint": True,
    }
    (shape,) = found["shapes"]
    assert shape["seconds"] > 0
    assert shape["gradient_norm"] > 0
    assert "weights float32" in result.out
    assert "T=2 batch=1" in result.out


@pytest.mark.parametrize("verb", ["forward", "train"])
@pytest.mark.parametrize(
    ("flags", "named"), [(("--preset", "9b"), "9b"), (("--latent_frames", "two"), "two"), (("--batch", "0"), "'0'")]
)
def test_wrong_input_is_named(run: Run, verb: str, flags: tuple[str, str], named: str) -> None:
    result = run("bench", verb, *flags)
    assert result.code == 2
    assert named in result.err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--weights", "float64"), "float64"),
        (("--optimizer", "sgd"), "sgd"),
        (("--find_longest",), "CUDA"),
    ],
)
def test_a_step_that_cannot_be_taken_is_refused(run: Run, flags: tuple[str, ...], named: str) -> None:
    result = run("bench", "train", "--device", "cpu", *flags)
    assert result.code == 2
    assert named in result.err


def test_parts_are_printed_beside_their_floors() -> None:
    work = forward_work(CONFIG, (3, 3, 5), caption_tokens=6)
    timing = {"latent_frames": 3, "batch": 1, "seconds": 1.0, "p90_seconds": 1.0, "first_seconds": 2.0, "peak_gb": 3.0}
    floor = compared(work, dict.fromkeys(PARTS, 0.5), H100)
    first, peaks, *lines = forward_lines({**timing, "floor": floor}).splitlines()
    assert first == "T=3 batch=1: 1.000 s (90 %: 1.000, first 2.0), 3.0 GB"
    assert peaks.strip() == "floor at 989 TFLOP/s and 3.35 TB/s"
    assert [line[2:26].strip() for line in lines] == [*PARTS, "all"]
    assert "500.0 ms, floor" in lines[0]


def test_twins_that_do_not_fit_are_told() -> None:
    timing = {"latent_frames": 3, "batch": 1, "seconds": 1.0, "p90_seconds": 1.0, "first_seconds": 2.0, "peak_gb": 3.0}
    assert "the plain twins do not fit" in train_lines({**timing, "plain": {"out_of_memory": True}})
    assert train_lines({"latent_frames": 3, "batch": 1, "out_of_memory": True}).endswith("device's memory")


def test_flags_and_links_of_the_page_exist(run: Run) -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "speed.md").read_text(encoding="utf-8")
    verbs = (("bench", "forward"), ("bench", "train"), ("generate",), ("convert",))
    programs = (docs.parent / "benchmarks").glob("*.py")
    flags = "".join([*(run(*verb, "--help").out for verb in verbs), *(path.read_text() for path in programs)])
    for flag in set(re.findall(r"--[a-z_]{3,}", text)):
        assert flag in flags, flag
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (docs / link).exists(), link


def test_the_chunks_of_a_stream_are_timed_and_its_state_measured() -> None:
    parts = tiny_components()
    stages = ChunkStages(parts.transformer, parts.codec, (32, 48), StreamSettings(timesteps=(1000.0, 0.0)))
    lines: list[str] = []
    found = measure_stream(stages, 4, lambda chunk: lines.append(stream_line(chunk)))
    sizes = [chunk["state_bytes"] for chunk in found]
    assert sizes[1:] == [sizes[1]] * 3  # of one size, once the window is full
    assert all(sum(size.values()) == pytest.approx(2 * size["all"], abs=64) for size in sizes)  # "all" is one of them
    assert all(chunk[f"{stage}_seconds"] > 0 for chunk in found for stage in ("denoise", "decode", "remember", "cpu"))
    assert lines[3].startswith("chunk 3: denoise")


def test_chunks_whose_stages_run_side_by_side_are_timed() -> None:
    parts = tiny_components()
    plan = StreamSettings(timesteps=(1000.0, 0.0))
    stages = ChunkStages(parts.transformer, parts.codec, (32, 48), plan)
    begun: dict[str, list[int]] = {"denoise": [], "decode": []}
    denoise, decode = stages.denoise, stages.decode
    stages.denoise = lambda *given: (begun["denoise"].append(given[0].chunk), denoise(*given))[1]  # type: ignore[method-assign]
    stages.decode = lambda *given: (begun["decode"].append(given[1].chunk - 1), decode(*given))[1]  # type: ignore[method-assign]
    found = measure_overlap(stages, 7, fps=16)
    assert begun == {"denoise": list(range(7)), "decode": list(range(7))}
    assert found["chunks"] == len(found["seconds"]) == 7 - overlap_warm_ups(plan)
    assert min(found["seconds"]) <= found["p50_seconds"] <= found["p99_seconds"] <= max(found["seconds"])
    assert found["frames_per_second"] == pytest.approx(24 * found["chunks"] / sum(found["seconds"]))
    assert found["times_real_time"] == pytest.approx(found["frames_per_second"] / 16)
    assert found["busy_seconds"].keys() == {"denoise", "decode", "write"}
    assert overlap_line(found).startswith("side by side: a chunk every 0.")


def test_a_stream_that_cannot_be_timed_is_refused(run: Run) -> None:
    for flags in (["--chunks", "2"], ["--preset", "mega"], ["--chunks", "3", "--overlap"]):
        assert run("bench", "stream", "--device", "cpu", *flags).code == 2
