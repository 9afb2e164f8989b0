"""`sana-wm generate --jobs`: every line becomes the video it would be alone, once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sana_wm.checkpoints.save import save_pretrained
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.models.config import StreamSettings
from tests.cli.conftest import Run
from tests.engine.tiny import SETTINGS, picture, tiny_components

ENDINGS = [".json", ".mp4", "_path.png", "_sheet.png"]


def write_jobs(folder: Path, *lines: Any) -> Path:
    """A file of jobs; what is text is a line as it stands."""
    path = folder / "jobs.jsonl"
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def whole(*names: str, record: bool = True) -> list[str]:
    return sorted([name + ending for name in names for ending in ENDINGS] + ["results.jsonl"] * record)


def record(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def sha(folder: Path, name: str) -> str:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["frames_sha256"]


@pytest.fixture
def flags(model: Path, tmp_path: Path) -> list[object]:
    """What the command line says of all jobs."""
    return ["generate", "--model", model, "--device", "cpu", "--output_dir", tmp_path / "out", "--fov", 70]


def test_jobs_have_the_frames_of_single_generations_and_the_model_is_loaded_once(
    run: Run, flags: list[object], image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, load = [], SanaWMPipeline.from_pretrained

    def counted(*args: Any, **kwargs: Any) -> SanaWMPipeline:
        loads.append(args)
        return load(*args, **kwargs)

    monkeypatch.setattr(SanaWMPipeline, "from_pretrained", counted)
    (image.parent / "words.txt").write_text("a street in the rain", encoding="utf-8")
    jobs = write_jobs(
        image.parent,
        {"image": "street.png", "action": "w-8", "name": "a"},
        "",
        {"image": "street.png", "action": "dw-16", "name": "b", "seed": 7, "step": 3, "prompt": "words.txt", "fov": 50},
        {"image": str(image), "action": "w-8", "name": "c", "overlay": True, "seed": None},
    )
    result = run(*flags, "--jobs", jobs, "--prompt", "a street", "--seed", 5)
    assert result.code == 0, result.err
    assert result.err == ""
    assert "3 done, 0 done before, 0 failed" in result.out
    assert len(loads) == 1
    assert files(tmp_path / "out") == sorted([*whole("a", "b", "c"), "c_overlay.mp4"])
    single = [*flags[:-4], "--output_dir", tmp_path / "single", "--image", image]
    alone = {
        "a": ["--action", "w-8", "--prompt", "a street", "--seed", 5, "--fov", 70],
        "b": ["--action", "dw-16", "--prompt", "a street in the rain", "--seed", 7, "--step", 3, "--fov", 50],
        "c": ["--action", "w-8", "--prompt", "a street", "--fov", 70],
    }
    for name, own in alone.items():
        assert run(*single, *own, "--name", name).code == 0
        assert sha(tmp_path / "out", name) == sha(tmp_path / "single", name)
    assert len({sha(tmp_path / "out", name) for name in alone}) == 3
    assert [(e["name"], e["status"], e["line"]) for e in record(tmp_path / "out")] == [
        ("a", "done", 1), ("b", "done", 3), ("c", "done", 4),
    ]  # fmt: skip
    for entry in record(tmp_path / "out"):
        assert entry["frames_sha256"] == sha(tmp_path / "out", entry["name"])
        assert entry["files"] == {name: (tmp_path / "out" / name).stat().st_size for name in entry["files"]}


MISTAKES: dict[str, tuple[Any, str]] = {
    "no JSON": ("{action: w-8}", "no JSON"),
    "no object": ("[1]", "object"),
    "NaN": ('{"action": "w-8", "fov": NaN}', "NaN"),
    "a key twice": ('{"action": "w-8", "action": "d-8"}', "twice"),
    "unknown key": ({"acton": "w-8"}, "did you mean action"),
    "far from any key": ({"zzz": 1}, "keys are image"),
    "of the run": ({"action": "w-8", "model": "nano"}, "--model"),
    "of streams": ({"action": "w-8", "stream": True}, "not streamed"),
    "text for a number": ({"action": "w-8", "seed": "one"}, "seed is 'one'; it must be a whole number"),
    "a number for text": ({"action": 8}, "action is 8; it must be text"),
    "true for a number": ({"action": "w-8", "step": True}, "step is True"),
    "negative seed": ({"action": "w-8", "seed": -1}, "seed is -1"),
    "no steps": ({"action": "w-8", "step": 0}, "num_inference_steps is 0"),
    "no frames": ({"action": "w-8", "num_frames": 0}, "num_frames is 0"),
    "unknown motion": ({"action": "w-8,q-2"}, "segment 2"),
    "both paths": ({"action": "w-8", "camera": "poses.npy"}, "both given"),
    "no path": ({}, "--action or --camera"),
    "missing image": ({"action": "w-8", "image": "no.png"}, "no.png"),
    "no image": ({"action": "w-8", "image": "jobs.jsonl"}, "not an image"),
    "missing poses": ({"camera": "no.npy"}, "no.npy"),
    "missing prompt file": ({"action": "w-8", "prompt": "no.txt"}, "no.txt"),
    "empty prompt": ({"action": "w-8", "prompt": " "}, "prompt is empty"),
    "wild lens": ({"action": "w-8", "fov": 500}, "500"),
    "name with folder": ({"action": "w-8", "name": "a/b"}, "a/b"),
    "the same name": ({"action": "d-8", "name": "first"}, "as line 1 does"),
    "the name of another's file": ({"action": "d-8", "name": "first_overlay"}, "first_overlay.mp4"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_line_ends_with_2_before_anything_is_made(
    run: Run, flags: list[object], image: Path, tmp_path: Path, mistake: str
) -> None:
    line, word = MISTAKES[mistake]
    jobs = write_jobs(image.parent, {"action": "w-8", "name": "first", "overlay": True}, line)
    result = run(*flags, "--jobs", jobs, "--image", image, "--prompt", "a street")
    assert result.code == 2, result.out
    assert result.out == ""
    (said,) = result.err.splitlines()
    assert f"error: jobs file '{jobs}', line 2: " in said
    assert word in said
    assert not (tmp_path / "out").exists()


def test_flags_that_do_not_go_with_jobs_are_refused(run: Run, flags: list[object], image: Path, tmp_path: Path) -> None:
    jobs = write_jobs(image.parent, {"action": "w-8"})
    more = [*flags, "--image", image, "--prompt", "a street"]
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n", encoding="utf-8")
    for wrong, word in (
        (["--jobs", jobs, "--stream"], "--stream"),
        (["--jobs", jobs, "--name", "x"], "--name"),
        (["--jobs", tmp_path / "no.jsonl"], "no.jsonl"),
        (["--jobs", empty], "has no lines"),
        (["--action", "w-8", "--replicas", 2], "--jobs"),
    ):
        result = run(*more, *wrong)
        assert result.code == 2
        assert word in result.err
    assert not (tmp_path / "out").exists()


def test_what_a_line_gives_takes_the_place_of_defaults_that_exclude_it(
    run: Run, flags: list[object], image: Path, tmp_path: Path
) -> None:
    import numpy as np

    from sana_wm.geometry.actions import rollout

    np.save(image.parent / "poses.npy", rollout("w-8").numpy())
    np.save(image.parent / "lens.npy", np.array([50.0, 50, 30, 16]))
    jobs = write_jobs(
        image.parent, {"camera": "poses.npy", "name": "a"}, {"intrinsics": "lens.npy", "name": "b", "action": "d-8"}
    )
    defaults = ["--action", "a-16", "--translation_speed", 0.5, "--image", image, "--prompt", "a street"]
    assert run(*flags, "--jobs", jobs, *defaults).code == 0
    found = {name: json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in "ab"}
    assert found["a"]["camera"]["path_length_units"] == pytest.approx(0.2, abs=1e-3)
    assert found["b"]["settings"]["intrinsics"]["source"] == "given"


def test_a_job_that_fails_is_reported_and_the_others_go_on(
    run: Run, flags: list[object], image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray(image.read_bytes())
    data[100:140] = bytes(40)
    (image.parent / "bad.png").write_bytes(data)
    lines = [{"image": name, "action": "w-8"} for name in ("bad.png", "street.png")]
    jobs = write_jobs(image.parent, *lines)
    result = run(*flags, "--jobs", jobs, "--prompt", "a street")
    assert result.code == 1
    assert "1 done, 0 done before, 1 failed" in result.out
    assert "job bad (line 1) failed" in caplog.text
    assert files(tmp_path / "out") == whole("street")
    bad, good = record(tmp_path / "out")
    assert (bad["status"], good["status"]) == ("failed", "done")
    assert "damaged" in bad["error"]
    picture().save(image.parent / "bad.png")  # and the same command makes what is missing
    result = run(*flags, "--jobs", jobs, "--prompt", "a street")
    assert result.code == 0, result.err
    assert "1 done, 1 done before, 0 failed" in result.out
    assert files(tmp_path / "out") == whole("bad", "street")


def test_only_what_is_not_whole_or_was_asked_for_otherwise_is_made_again(
    run: Run, flags: list[object], image: Path, tmp_path: Path
) -> None:
    lines = [{"action": "w-8", "name": name} for name in "abcd"]
    more = ["--image", image, "--prompt", "a street"]
    assert run(*flags, "--jobs", write_jobs(tmp_path, *lines), *more).code == 0
    out = tmp_path / "out"
    (out / "a.mp4").unlink()
    (out / "b.mp4").write_bytes((out / "b.mp4").read_bytes()[:100])
    lines[2] = {**lines[2], "seed": 9}
    with (out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"name": "d", "sta')  # the line that a killed run was writing
    result = run(*flags, "--jobs", write_jobs(tmp_path, *lines), *more)
    assert "3 done, 1 done before" in result.out
    assert [entry["name"] for entry in readable(out)] == ["a", "b", "c", "d", "a", "b", "c"]
    assert "0 done, 4 done before" in run(*flags, "--jobs", tmp_path / "jobs.jsonl", *more).out
    picture(72, 40).save(image)  # another picture of the same name
    assert "4 done, 0 done before" in run(*flags, "--jobs", tmp_path / "jobs.jsonl", *more).out


def readable(folder: Path) -> list[dict[str, Any]]:
    found = []
    for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            assert line == '{"name": "d", "sta'
    return found


@pytest.mark.parametrize(("what", "count", "code"), [("kill", 6, -9), ("interrupt", 4, 130)])
def test_a_run_goes_on_where_it_was_after_ctrl_c_and_after_a_kill(
    run: Run, flags: list[object], image: Path, tmp_path: Path, what: str, count: int, code: int
) -> None:
    """The kill comes when one of the four files of the second job has its name."""
    lines = [{"action": "w-8", "name": name, "seed": seed} for seed, name in enumerate("abc")]
    command = [*flags, "--jobs", write_jobs(tmp_path, *lines), "--image", image, "--prompt", "a street"]
    source = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.cli.interrupted_jobs", what, str(count), *map(str, command)],
        cwd=source, env={**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    out = tmp_path / "out"
    assert [entry["name"] for entry in record(out)] == ["a"]
    begun = [path for path in out.iterdir() if path.name.startswith((".", "b"))]
    assert len(begun) == (2 if what == "kill" else 0)
    before = (out / "a.mp4").stat().st_mtime_ns
    result = run(*command)
    assert result.code == 0, result.err
    assert "2 done, 1 done before, 0 failed" in result.out
    assert files(out) == whole("a", "b", "c")
    assert (out / "a.mp4").stat().st_mtime_ns == before
    assert run("generate", *flags[1:5], "--output_dir", tmp_path / "s", "--image", image, "--prompt", "a street",
               "--action", "w-8", "--seed", 1, "--fov", 70, "--name", "b").code == 0  # fmt: skip
    assert sha(out, "b") == sha(tmp_path / "s", "b")


def test_two_runs_do_not_write_into_one_folder(run: Run, flags: list[object], image: Path, tmp_path: Path) -> None:
    from sana_wm.serving.batch.record import Record

    command = [*flags, "--jobs", write_jobs(tmp_path, {"action": "w-8"}), "--image", image, "--prompt", "a street"]
    with Record.open(tmp_path / "out"):
        result = run(*command)
    assert result.code == 2
    assert "another run" in result.err
    assert run(*command).code == 0


def test_a_model_that_streams_does_jobs_as_well(run: Run, image: Path, tmp_path: Path) -> None:
    stream = StreamSettings(timesteps=(1000.0, 500.0, 0.0))
    model = tmp_path / "streams"
    save_pretrained(model, tiny_components(replace(SETTINGS, stream=stream)))
    jobs = write_jobs(image.parent, {"image": "street.png", "action": "w-24", "name": "a"})
    flags = ["generate", "--model", model, "--device", "cpu", "--fov", 70, "--num_frames", 25, "--prompt", "a street"]
    many = run(*flags, "--output_dir", tmp_path / "many", "--jobs", jobs)
    assert many.code == 0, many.err
    alone = run(*flags, "--output_dir", tmp_path / "one", "--image", image, "--action", "w-24", "--name", "a")
    assert alone.code == 0, alone.err
    assert sha(tmp_path / "many", "a") == sha(tmp_path / "one", "a")
