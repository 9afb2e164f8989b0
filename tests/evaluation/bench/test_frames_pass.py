"""One pass over a video file gives what the measures give on whole videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sana_wm.engine.mp4 import write_mp4
from sana_wm.errors import InputError
from sana_wm.evaluation.bench.frames_pass import look
from sana_wm.evaluation.bench.over_time import change, sharpness_over_time, window_means
from sana_wm.evaluation.bench.video_file import VideoError, VideoFile
from sana_wm.evaluation.image import frame_psnr, sharpness, ssim
from sana_wm.evaluation.vbench import temporal_flickering

COUNT = 75  # more than two chunks


def pictures(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """A smooth picture that moves, (F,H,W,3) uint8."""
    rng = np.random.default_rng(seed)
    grey = torch.from_numpy(rng.integers(60, 196, (1, 1, 6, 9))).float()
    coarse = grey + torch.tensor([8.0, 0.0, -8.0]).view(1, 3, 1, 1)  # little colour, of which a video keeps less
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 48), mode="bicubic").clamp(0, 255)[0]
    moved = [np.roll(smooth.byte().permute(1, 2, 0).numpy(), shift, axis=1) for shift in range(count)]
    return np.stack(moved)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("video") / "a.mp4"
    write_mp4(file, pictures(), 16)
    return file


@pytest.fixture(scope="module")
def frames(path: Path) -> Tensor:
    return torch.cat(list(VideoFile.open(path).chunks()))


def test_a_file_says_what_is_in_it_and_gives_the_frames_that_were_written(path: Path, frames: Tensor) -> None:
    video = VideoFile.open(path)
    assert (video.num_frames, video.height, video.width, video.fps) == (COUNT, 32, 48, 16.0)
    written = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
    assert (frames.float() - written.float()).abs().mean() < 4


def test_curves_in_chunks_are_those_of_the_whole_video(path: Path, frames: Tensor) -> None:
    truth = torch.from_numpy(pictures(seed=1)).permute(0, 3, 1, 2)
    looks = look(VideoFile.open(path), keep=[0, 40, 74], truth=truth, interval=4)
    assert torch.equal(looks.curves["sharpness"], sharpness(frames))
    assert torch.equal(looks.likeness["psnr"], frame_psnr(frames, truth))
    assert looks.compared == list(range(0, COUNT, 4))
    assert torch.equal(looks.likeness["ssim"], ssim(frames[::4], truth[::4]))
    assert looks.flickering == pytest.approx(temporal_flickering(frames))
    assert looks.kept.keys() == {0, 40, 74}
    assert torch.equal(looks.kept[40], frames[40])


def test_flickering_leaves_out_the_first_frame_where_that_is_asked(path: Path, frames: Tensor) -> None:
    looks = look(VideoFile.open(path), skip_first=True)
    assert looks.flickering == pytest.approx(temporal_flickering(frames[1:]))


def test_other_measures_see_every_frame_once(path: Path) -> None:
    seen: list[int] = []

    def score(chunk: Tensor) -> Tensor:
        seen.append(len(chunk))
        return torch.full((len(chunk),), 50.0, dtype=torch.float64)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        assert a.shape == b.shape
        return torch.full((len(a),), 0.25, dtype=torch.float64)

    truth = torch.zeros(20, 3, 32, 48, dtype=torch.uint8)
    looks = look(VideoFile.open(path), truth=truth, interval=4, imaging_quality=score, lpips=distance)
    assert sum(seen) == COUNT == len(looks.curves["imaging_quality"])
    assert len(looks.likeness["psnr"]) == 20
    assert looks.likeness["lpips"].tolist() == [0.25] * 5


def test_a_truth_of_another_size_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="true frames"):
        look(VideoFile.open(path), truth=torch.zeros(5, 3, 16, 16, dtype=torch.uint8))


def test_videos_that_are_missing_cut_off_or_something_else_are_told(path: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="does not exist"):
        VideoFile.open(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match="cannot be decoded"):
        VideoFile.open(tmp_path / "text.mp4")
    data = path.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError):
        look(VideoFile.open(tmp_path / "cut.mp4"))


def test_windows_are_as_long_as_asked_and_short_videos_have_none() -> None:
    curve = torch.cat([torch.full((16,), 4.0), torch.full((16,), 2.0), torch.full((5,), 9.0)])
    assert window_means(curve, 16.0, 1.0, skip_first=False) == [4.0, 2.0]
    assert window_means(curve, 16.0, 10.0, skip_first=False) == [pytest.approx(float(curve.mean()))]
    assert window_means(curve[:16], 16.0, 10.0, skip_first=True) is None
    assert window_means(curve, 16.0, 0.5, skip_first=False) is None  # windows of 8 frames are not scored
    assert change([4.0, 2.0]) == 2.0
    assert change([4.0]) is None
    assert change(None) is None


def test_sharpness_is_told_relative_to_the_truth_and_to_its_own_beginning() -> None:
    made = torch.cat([torch.full((16,), 0.2), torch.full((16,), 0.1)])
    truth = torch.cat([torch.full((16,), 0.4), torch.full((24,), 0.1)])
    found = sharpness_over_time(made, truth, fps=16.0, seconds=1.0, skip_first=False)
    assert found["ratio"] == pytest.approx([0.5, 1.0])
    assert found["relative"] == pytest.approx([1.0, 0.5])
    alone = sharpness_over_time(made, None, fps=16.0, seconds=1.0, skip_first=False)
    assert alone["relative"] == pytest.approx([1.0, 0.5])
    assert "ratio" not in alone
