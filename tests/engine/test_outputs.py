"""What lies on disk afterwards is complete, plays, says how it was made, and appears whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from sana_wm.engine.outputs import write_outputs
from sana_wm.engine.path_plot import nice_length, plot_path
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.sheet import contact_sheet
from sana_wm.engine.sidecar import frames_sha256, summarize_path
from sana_wm.engine.staging import check_name, check_writable, staged
from sana_wm.engine.video import WorldVideo
from sana_wm.errors import InputError
from sana_wm.geometry.actions import rollout
from tests.engine.tiny import picture


@pytest.fixture(scope="module")
def video(pipe: SanaWMPipeline) -> WorldVideo:
    return pipe(image=picture(), prompt="a street", action="w-8,dw-8", fov=70.0, generator=5)


def colours(frames: int = 9) -> np.ndarray:
    """Smooth frames that tell the colour channels and the frames apart."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    one = np.stack(np.broadcast_arrays(ramp[None], ramp[::-1][None], ramp[:48, None]), axis=-1)
    return np.stack([np.roll(one, 4 * i, axis=1) for i in range(frames)])


def decoded(path: Path) -> tuple[np.ndarray, float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        rate = float(stream.average_rate or 0)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]), rate


def as_video(frames: np.ndarray, fps: int = 16) -> WorldVideo:
    count = len(frames)
    return WorldVideo(frames, fps, torch.eye(4).expand(count, 4, 4), torch.ones(count, 4), {"seed": 1})


def test_the_mp4_holds_the_frames_at_the_rate(tmp_path: Path) -> None:
    frames = colours()
    path = as_video(frames).save(tmp_path / "deep" / "a.mp4")
    back, rate = decoded(path)
    assert back.shape == frames.shape
    assert rate == 16
    assert np.abs(back.astype(int) - frames).mean() < 4  # and so channels, colour matrix and range are right


def test_the_mp4_starts_playing_before_it_is_all_there(tmp_path: Path) -> None:
    data = as_video(colours()).save(tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_save_writes_the_description_beside_the_video(tmp_path: Path, video: WorldVideo) -> None:
    video.save(tmp_path / "a.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mp4"]
    assert json.loads((tmp_path / "a.json").read_text())["frames_sha256"] == frames_sha256(video.frames)


def test_save_wants_an_mp4(tmp_path: Path, video: WorldVideo) -> None:
    with pytest.raises(InputError, match=r"a\.avi"):
        video.save(tmp_path / "a.avi")


def test_the_sidecar_says_how_the_video_was_made(tmp_path: Path, video: WorldVideo) -> None:
    write_outputs(video, tmp_path, "a", fps=24, timings={"load": 1.0}, request={"image": "street.png"})
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["video"] == {"num_frames": 17, "height": 32, "width": 48, "fps": 24, "seconds": 0.708}
    settings = content["settings"]
    assert settings["seed"] == 5
    assert settings["prompt"] == "a street"
    assert settings["action"] == "w-8,dw-8"
    assert settings["translation_speed"] == 0.025
    assert settings["num_inference_steps"] == 2
    assert settings["sampler"] == "flow_euler_ltx"
    assert settings["frames"] == {"requested": 17, "available": 17, "used": 17}
    assert settings["intrinsics"]["source"] == "field of view"
    assert settings["intrinsics"]["assumed"] is False
    assert content["request"] == {"image": "street.png"}
    assert {"python", "torch", "sana_wm"} <= content["versions"].keys()
    assert {"load", "encode", "denoise", "decode", "write", "generate"} <= content["timings_seconds"].keys()
    assert content["frames_sha256"] == frames_sha256(video.frames)


def test_the_camera_is_summarised_in_units_and_degrees() -> None:
    summary = summarize_path(rollout("w-40", translation_speed=0.05))
    assert summary["path_length_units"] == pytest.approx(2.0, abs=1e-4)
    assert summary["end_position_units"] == pytest.approx([0, 0, 2], abs=1e-4)
    turned = summarize_path(rollout("d-300", rotation_speed_deg=1.0))
    assert turned["end_heading_deg"] == pytest.approx(300, abs=1e-2)
    assert summarize_path(rollout("i-20", rotation_speed_deg=1.0))["end_pitch_deg"] == pytest.approx(20, abs=1e-2)


def test_all_files_are_written_and_nothing_else(tmp_path: Path, video: WorldVideo) -> None:
    paths = write_outputs(video, tmp_path, "a", overlay=True)
    expected = ["a.json", "a.mp4", "a_overlay.mp4", "a_path.png", "a_sheet.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    assert sorted(path.name for path in paths.values()) == expected
    clean, drawn = decoded(tmp_path / "a.mp4")[0], decoded(tmp_path / "a_overlay.mp4")[0]
    assert clean.shape == drawn.shape
    assert not np.array_equal(clean, drawn)
    for name in ("a_path.png", "a_sheet.png"):
        Image.open(tmp_path / name).verify()


def test_writing_counts_its_frames(tmp_path: Path, video: WorldVideo) -> None:
    calls: list[tuple[str, int, int]] = []
    write_outputs(video, tmp_path, "a", overlay=True, progress=lambda *call: calls.append(call))
    assert calls[0] == ("write", 0, 34)
    assert calls[-1] == ("write", 34, 34)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_failure_while_writing_leaves_nothing(
    tmp_path: Path, video: WorldVideo, failure: type[BaseException]
) -> None:
    def fail(stage: str, done: int, total: int) -> None:
        if done == 10:
            raise failure

    with pytest.raises(failure):
        write_outputs(video, tmp_path / "new" / "out", "a", progress=fail)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_files_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")
    def half() -> None:
        with staged(tmp_path) as folder:
            (folder / "a.mp4").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_later_run_replaces_the_files_of_an_earlier_one(tmp_path: Path) -> None:
    as_video(colours(9)).save(tmp_path / "a.mp4")
    as_video(colours(17)).save(tmp_path / "a.mp4")
    assert len(decoded(tmp_path / "a.mp4")[0]) == 17


def test_a_full_or_forbidden_disk_is_one_sentence(tmp_path: Path, video: WorldVideo) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be written"):
            video.save(place / "a.mp4")
        with pytest.raises(InputError, match="cannot be written"):
            check_writable(place, ["a.mp4"])


def test_checking_a_place_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "out", ["a.mp4"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        check_writable(tmp_path, ["a.mp4"])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", ".hidden", "a\nb", "x" * 300])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        check_name(name)


@pytest.mark.parametrize(("count", "cells"), [(1, 1), (3, 3), (17, 12)])
def test_the_sheet_shows_frames_from_first_to_last(count: int, cells: int) -> None:
    frames = np.zeros((count, 32, 48, 3), np.uint8)
    frames[0, ..., 0], frames[-1, ..., 1] = 200, 200
    sheet = np.asarray(contact_sheet(frames, 16))
    columns, rows = min(4, cells), math.ceil(cells / 4)
    assert sheet.shape == (8 + rows * 60, 8 + columns * 56, 3)
    assert sheet[20, 20, 0] == 200
    row, column = divmod(cells - 1, 4)
    assert sheet[20 + row * 60, 20 + column * 56, 1] == 200


def test_a_large_video_gets_a_small_sheet() -> None:
    assert contact_sheet(np.zeros((5, 704, 1280, 3), np.uint8), 16).width <= 4 * 330


def _centre(pixels: np.ndarray, red: bool) -> tuple[float, float]:
    """Mean column and row of the larger dot of the path, away from the legend."""
    channel, other = (0, 1) if red else (1, 0)
    area = pixels[70:570, :, :].astype(int)
    rows, columns = np.nonzero(area[..., channel] - area[..., other] > 90)
    return float(columns.mean()), float(rows.mean())


def test_the_path_plot_has_forward_up_and_right_right() -> None:
    forward = np.asarray(plot_path(rollout("w-60")))
    start, end = _centre(forward, red=False), _centre(forward, red=True)
    assert end[1] < start[1] - 100
    assert abs(end[0] - start[0]) < 10
    right = np.asarray(plot_path(rollout("l-60")))
    start, end = _centre(right, red=False), _centre(right, red=True)
    assert end[0] > start[0] + 100


def test_paths_without_motion_and_single_poses_can_be_plotted() -> None:
    assert plot_path(torch.eye(4)[None]).size == plot_path(rollout("d-60")).size


@pytest.mark.parametrize(("limit", "length"), [(1.0, 1.0), (1.9, 1.0), (4.9, 2.0), (0.07, 0.05), (730.0, 500.0)])
def test_scale_bars_have_round_lengths(limit: float, length: float) -> None:
    assert nice_length(limit) == pytest.approx(length)
