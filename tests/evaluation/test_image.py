"""Image measures: what they say of frames whose answer is known in closed form."""

import math

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.image import frame_psnr, psnr, sharpness


def test_psnr_is_measured_frame_by_frame_over_all_entries() -> None:
    a = torch.full((3, 3, 4, 5), 100, dtype=torch.uint8)
    b = a.clone()
    b[1] += 10  # mse 100
    b[2, 0] += 10  # one channel of three: mse 100/3
    expected = [100.0, 10 * math.log10(255**2 / 100), 10 * math.log10(255**2 * 3 / 100)]
    assert frame_psnr(a, b).tolist() == pytest.approx(expected)


def test_differences_of_bytes_do_not_wrap_around() -> None:
    dark, bright = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    assert frame_psnr(dark, bright).item() == pytest.approx(0.0)
    assert frame_psnr(bright.numpy(), dark.numpy()).item() == pytest.approx(0.0)


def test_bytes_and_floats_of_the_same_pictures_have_the_same_psnr() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (2, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2))
    floats = [x.float() / 127.5 - 1.0 for x in (a, b)]
    assert frame_psnr(*floats).tolist() == pytest.approx(frame_psnr(a, b).tolist(), rel=1e-5)
    assert psnr(a, b, data_range=255.0).tolist() == frame_psnr(a, b).tolist()


def test_blur_lowers_sharpness_and_a_ramp_has_its_slope() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 16, 16, generator=generator) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    assert sharpness(blurred).item() < 0.5 * sharpness(noise).item()
    ramp = torch.arange(8, dtype=torch.float32).expand(1, 3, 8, 8) / 4 - 1  # one eighth of black-to-white a column
    assert sharpness(ramp).item() == pytest.approx(1 / 8)
    assert sharpness(torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)).tolist() == [0.0, 0.0]


def test_frames_that_cannot_be_compared_are_refused_in_one_sentence() -> None:
    video = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match=r"shapes \(2, 3, 4, 4\) and \(1, 3, 4, 4\)"):
        frame_psnr(video, video[:1])
    with pytest.raises(InputError, match="both must be uint8"):
        frame_psnr(video, video.float())
    with pytest.raises(InputError, match="int64"):
        frame_psnr(video.long(), video.long())
    with pytest.raises(InputError, match="data_range is 0"):
        psnr(video, video, data_range=0)
    with pytest.raises(InputError, match=r"\(2, 4, 4, 3\)"):
        sharpness(video.permute(0, 2, 3, 1))
