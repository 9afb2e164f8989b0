"""Quality is followed window by window over the same videos, at their true rate."""

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.degradation import degradation


def falling(frames: int, start: float = 90.0, per_frame: float = 0.01) -> torch.Tensor:
    return start - per_frame * torch.arange(frames, dtype=torch.float64)


def test_a_minute_has_six_windows_and_its_last_frame_is_dropped() -> None:
    curve = falling(961)
    curve[960] = -1e6
    found = degradation([curve])
    assert found.windows.tolist() == pytest.approx([90 - 0.01 * (79.5 + 160 * k) for k in range(6)])
    assert found.delta == pytest.approx(8.0)
    assert found.videos == (1,) * 6


def test_a_copied_first_frame_can_be_left_out() -> None:
    curve = torch.full((961,), 50.0)
    curve[0] = 1e6
    assert degradation([curve], skip_first_frame=True).windows.tolist() == [50.0] * 6


def test_windows_are_ten_seconds_at_the_true_rate() -> None:
    curve = torch.cat([torch.full((240,), float(k)) for k in range(6)])
    assert degradation([curve], fps=24.0).windows.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(degradation([curve], fps=24.0, compat=True).windows) == 9


def test_videos_with_other_windows_are_refused_unless_compatible() -> None:
    curves = [torch.full((961,), 60.0), torch.full((961,), 60.0), torch.full((500,), 90.0)]
    with pytest.raises(InputError, match="video 0 has 6 windows and video 2 has 3"):
        degradation(curves)
    found = degradation(curves, compat=True)
    assert found.videos == (3, 3, 3, 2, 2, 2)
    assert found.delta == pytest.approx(10.0)  # of different videos: why it is refused


def test_a_short_video_is_one_window_and_a_snippet_none() -> None:
    assert degradation([torch.full((40,), 3.0)]).windows.tolist() == [3.0]
    with pytest.raises(InputError, match="none of the 1 videos has a window of at least 16 frames"):
        degradation([torch.full((15,), 3.0)])
    with pytest.raises(InputError, match="none of the 0 videos"):
        degradation([])


def test_more_than_ten_windows_stay_in_order() -> None:
    curve = torch.arange(12, dtype=torch.float64).repeat_interleave(160)
    assert degradation([curve], compat=True).delta == -11.0


def test_wrong_scores_are_refused_by_name() -> None:
    curve = torch.full((200,), 3.0)
    curve[7] = float("nan")
    with pytest.raises(InputError, match="video 1, frame 7, is nan"):
        degradation([torch.zeros(200), curve])
    with pytest.raises(InputError, match=r"video 0 have the shape \(2, 200\)"):
        degradation([torch.zeros(2, 200)])
    with pytest.raises(InputError, match="fps is 0"):
        degradation([torch.zeros(200)], fps=0.0)
    with pytest.raises(InputError, match="holds 0 frames"):
        degradation([torch.zeros(200)], window_seconds=0.01)
