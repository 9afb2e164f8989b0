"""`sana-wm generate`: what it writes and says, and that wrong input ends early, in one line, with nothing on disk."""

from __future__ import annotations

import inspect
import json
import logging
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sana_wm.cli.generate import generate
from sana_wm.engine import example
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.geometry.actions import rollout
from tests.cli.conftest import Run

FILES = ["street.json", "street.mp4", "street_path.png", "street_sheet.png"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sidecar(folder: Path, name: str = "street") -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def flags(model: Path, image: Path, tmp_path: Path) -> list[object]:
    """A complete request, into the folder out."""
    request = ["--image", image, "--prompt", "a street", "--fov", 70, "--model", model, "--device", "cpu"]
    return ["generate", *request, "--output_dir", tmp_path / "out"]


def test_a_request_becomes_four_files_and_says_so(run: Run, flags: list[object], tmp_path: Path) -> None:
    result = run(*flags, "--action", "w-8,dw-8")
    assert result.code == 0, result.err
    assert result.err == ""
    assert names(tmp_path / "out") == FILES
    assert "17 frames of 48x32 at 16 fps" in result.out
    assert all(str(tmp_path / "out" / name) in result.out for name in FILES)
    assert "s in total" in result.out
    with av.open(str(tmp_path / "out" / "street.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 17


def test_every_flag_reaches_the_video(run: Run, flags: list[object], tmp_path: Path) -> None:
    changes = ["--step", 3, "--cfg_scale", 2.0, "--flow_shift", 5.0, "--seed", 9, "--translation_speed", 0.1]
    more = ["--rotation_speed_deg", 1.5, "--fps", 24, "--name", "walk", "--negative_prompt", "fog", "--overlay"]
    result = run(*flags, "--action", "w-8", "--num_frames", 9, *changes, *more)
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "walk_overlay.mp4").is_file()
    content = sidecar(tmp_path / "out", "walk")
    expected = {"num_inference_steps": 3, "guidance_scale": 2.0, "flow_shift": 5.0, "seed": 9, "negative_prompt": "fog"}
    assert {key: content["settings"][key] for key in expected} == expected
    assert content["settings"]["intrinsics"]["source"] == "field of view"
    assert content["video"]["fps"] == 24
    assert content["video"]["num_frames"] == 9
    assert content["camera"]["path_length_units"] == pytest.approx(0.8, abs=1e-3)
    request = content["request"]
    assert request["rotation_speed_deg"] == 1.5
    assert request["action"] == "w-8"


def test_the_command_and_the_pipeline_make_the_same_frames(
    run: Run, flags: list[object], model: Path, image: Path, tmp_path: Path
) -> None:
    assert run(*flags, "--action", "w-8", "--seed", 3).code == 0
    pipe = SanaWMPipeline.from_pretrained(model, device="cpu")
    pipe(image=image, prompt="a street", action="w-8", fov=70.0, generator=3).save(tmp_path / "b.mp4")
    assert sidecar(tmp_path, "b")["frames_sha256"] == sidecar(tmp_path / "out")["frames_sha256"]


def test_seeds_decide_the_frames(run: Run, flags: list[object], tmp_path: Path) -> None:
    hashes = []
    for seed in (1, 1, 2):
        assert run(*flags, "--action", "w-8", "--seed", seed).code == 0
        hashes.append(sidecar(tmp_path / "out")["frames_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_rate_of_the_file_does_not_change_the_motion(run: Run, flags: list[object], tmp_path: Path) -> None:
    hashes = set()
    for fps in (16, 30):
        assert run(*flags, "--action", "w-8", "--fps", fps).code == 0
        hashes.add(sidecar(tmp_path / "out")["frames_sha256"])
    assert len(hashes) == 1


def test_dashes_are_understood_as_underscores(run: Run, flags: list[object], tmp_path: Path) -> None:
    assert run(*flags, "--action", "w-8", "--num-frames", 9, "--cfg-scale", 1).code == 0
    assert sidecar(tmp_path / "out")["video"]["num_frames"] == 9


def test_the_prompt_may_be_a_file(run: Run, flags: list[object], tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Straße im Regen\n", encoding="utf-8")
    assert run(*flags, "--prompt", tmp_path / "prompt.txt", "--action", "w-8").code == 0
    assert sidecar(tmp_path / "out")["settings"]["prompt"] == "Straße im Regen"


def test_pose_files_of_both_kinds_drive_the_camera(run: Run, flags: list[object], tmp_path: Path) -> None:
    poses = rollout("w-8").numpy()
    np.save(tmp_path / "poses.npy", poses)
    np.savez(tmp_path / "poses.npz", c2w=poses, intrinsics=np.tile([[50.0, 0, 30], [0, 50, 16], [0, 0, 1]], (9, 1, 1)))
    assert run(*flags, "--camera", tmp_path / "poses.npy").code == 0
    by_array = sidecar(tmp_path / "out")
    assert by_array["request"]["camera"] == str(tmp_path / "poses.npy")
    without_fov = [flag for flag in flags if flag not in ("--fov", 70)]
    assert run(*without_fov, "--camera", tmp_path / "poses.npz").code == 0
    by_archive = sidecar(tmp_path / "out")
    assert by_archive["settings"]["intrinsics"]["source"] == "pose file"
    assert by_archive["settings"]["intrinsics"]["source_image"] == [50.0, 50.0, 30.0, 16.0]
    assert by_archive["camera"] == by_array["camera"]


def test_without_flags_the_bundled_example_is_made(
    run: Run, model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"image": image.name, "prompt": "a street", "action": "w-8", "intrinsics": [50, 50, 30, 16]}
    (image.parent / "example.json").write_text(json.dumps(content))
    monkeypatch.setattr(example.load_example, "__defaults__", (image.parent,))
    monkeypatch.chdir(tmp_path)
    assert run("generate", "--model", model).code == 0
    assert names(tmp_path / "out") == FILES
    assert sidecar(tmp_path / "out")["settings"]["intrinsics"]["source"] == "given"
    # and a single flag changes a single thing
    assert run("generate", "--model", model, "--action", "d-8").code == 0
    changed = sidecar(tmp_path / "out")
    assert changed["settings"]["prompt"] == "a street"
    assert changed["camera"]["end_heading_deg"] > 4


def test_an_assumed_field_of_view_and_a_snapped_length_are_said(
    run: Run, flags: list[object], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    without_fov = [flag for flag in flags if flag not in ("--fov", 70)]
    assert run(*without_fov, "--action", "w-20", "--num_frames", 12).code == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("60 degrees" in message for message in warnings)
    assert any("9 frames, not the 12" in message for message in warnings)
    settings = sidecar(tmp_path / "out")["settings"]
    assert settings["intrinsics"]["assumed"] is True
    assert settings["frames"] == {"requested": 12, "available": 21, "used": 9}


def wrong(tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    """Name of the mistake: flags added to a complete request, and a word of the sentence."""
    text, flat = tmp_path / "text.png", tmp_path / "flat.npy"
    text.write_text("no image")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    np.save(flat, np.zeros((9, 3, 4)))
    np.save(tmp_path / "good.npy", rollout("w-8").numpy())
    bent = rollout("w-8").numpy()
    bent[4, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", bent)
    np.save(tmp_path / "zero.npy", np.array([0.0, 50, 30, 16]))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    go: list[object] = ["--action", "w-8"]
    return {
        "missing image": ([*go, "--image", tmp_path / "no.png"], "no.png"),
        "not an image": ([*go, "--image", text], "not an image"),
        "one pixel": ([*go, "--image", tmp_path / "dot.png"], "1x1"),
        "empty prompt": ([*go, "--prompt", " "], "prompt is empty"),
        "missing prompt file": ([*go, "--prompt", "nothing.txt"], "nothing.txt"),
        "prompt in another coding": ([*go, "--prompt", tmp_path / "latin.txt"], "UTF-8"),
        "unknown key": (["--action", "w-8,q-2"], "segment 2"),
        "action and camera": ([*go, "--camera", tmp_path / "good.npy"], "both"),
        "no path": ([], "--action or --camera"),
        "poses of another shape": (["--camera", flat], "(9, 3, 4)"),
        "poses with NaN": (["--camera", tmp_path / "nan.npy"], "frame 4"),
        "missing poses": (["--camera", tmp_path / "no.npy"], "no.npy"),
        "zero focal length": ([*go, "--intrinsics", tmp_path / "zero.npy"], "focal"),
        "intrinsics and fov": ([*go, "--intrinsics", tmp_path / "zero.npy", "--fov", 60], "both"),
        "speed for poses": (["--camera", tmp_path / "good.npy", "--translation_speed", 1], "action strings"),
        "negative speed": ([*go, "--translation_speed", -1], "translation_speed"),
        "no frames": ([*go, "--num_frames", 0], "num_frames is 0"),
        "no steps": ([*go, "--step", 0], "num_inference_steps is 0"),
        "wild guidance": ([*go, "--cfg_scale", "nan"], "guidance_scale is nan"),
        "wild shift": ([*go, "--flow_shift", -2], "flow_shift is -2"),
        "negative seed": ([*go, "--seed", -1], "seed is -1"),
        "no rate": ([*go, "--fps", 0], "fps is 0"),
        "name with folder": ([*go, "--name", "a/b"], "a/b"),
        "output is a file": ([*go, "--output_dir", text], "cannot be written"),
        "unknown device": ([*go, "--device", "gpu0"], "gpu0"),
        "unknown model": ([*go, "--model", tmp_path / "no-model"], "no-model"),
        "a word for a number": ([*go, "--step", "many"], "--step"),
        "unknown flag": ([*go, "--speed", "9"], "--speed"),
    }


MISTAKES = [
    "missing image", "not an image", "one pixel", "empty prompt", "missing prompt file", "prompt in another coding",
    "unknown key", "action and camera", "no path", "poses of another shape", "poses with NaN", "missing poses",
    "zero focal length", "intrinsics and fov", "speed for poses", "negative speed", "no frames", "no steps",
    "wild guidance", "wild shift", "negative seed", "no rate", "name with folder", "output is a file", "unknown device",
    "unknown model", "a word for a number", "unknown flag",
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_input_ends_with_2_one_line_and_nothing_on_disk(
    run: Run, model: Path, image: Path, tmp_path: Path, mistake: str
) -> None:
    mistakes = wrong(tmp_path)
    assert list(mistakes) == MISTAKES
    extra, word = mistakes[mistake]
    request = ["--image", image, "--prompt", "a street", "--model", model, "--output_dir", tmp_path / "out"]
    fov = [] if "--intrinsics" in extra else ["--fov", 70]
    before = names(tmp_path)
    result = run("generate", *request, *fov, *extra)
    assert result.code == 2
    assert result.out == ""
    lines = result.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert word in lines[0]
    assert names(tmp_path) == before


def test_everything_cheap_is_checked_before_a_model_is_looked_for(run: Run, image: Path, tmp_path: Path) -> None:
    request = ["--image", image, "--prompt", "a street", "--output_dir", tmp_path / "out"]
    missing = ["--model", tmp_path / "no-model", *request]
    cheap: list[list[object]] = [
        ["--action", "w-8,q-2"],
        ["--action", "w-8", "--step", "0"],
        ["--action", "w-8", "--fov", "500"],
        ["--action", "w-8", "--device", "gpu0"],
    ]
    for flags in cheap:
        result = run("generate", *missing, *flags)
        assert result.code == 2
        assert "no-model" not in result.err


def test_a_model_that_makes_no_video_ends_with_1_and_nothing_on_disk(
    run: Run, flags: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = SanaWMPipeline.from_pretrained

    def damaged(*args: Any, **kwargs: Any) -> SanaWMPipeline:
        pipe = load(*args, **kwargs)
        next(pipe.codec.decoder.parameters()).data.fill_(float("nan"))
        return pipe

    monkeypatch.setattr(SanaWMPipeline, "from_pretrained", damaged)
    result = run(*flags, "--action", "w-8")
    assert result.code == 1
    assert result.err.startswith("error: stage decode")
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_with_130_and_nothing_on_disk(
    run: Run, flags: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sana_wm.engine.outputs.plot_path", interrupt)  # the video is written, the rest not yet
    result = run(*flags, "--action", "w-8")
    assert result.code == 130
    assert result.err == "error: interrupted\n"
    assert not (tmp_path / "out").exists()


def test_a_bug_of_ours_keeps_its_traceback(
    run: Run, flags: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sana_wm.engine.outputs.plot_path", broken)
    with pytest.raises(ZeroDivisionError):
        run(*flags, "--action", "w-8")


def test_the_speeds_in_the_help_are_those_of_the_motion_model() -> None:
    signature = inspect.signature(rollout)
    shown = inspect.signature(generate, eval_str=True).parameters
    for name in ("translation_speed", "rotation_speed_deg"):
        option = shown[name].annotation.__metadata__[0]
        assert float(option.show_default) == signature.parameters[name].default
