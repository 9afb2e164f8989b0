"""Image measures: what they say of frames whose answer is known in closed form."""

import math

import numpy as np
import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.image import SsimWindow, frame_psnr, psnr, sharpness, ssim


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


def naive_release_ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Window by window over one channel (H,W) 0..255, borders mirrored with the edge pixel."""
    padded_a, padded_b = (np.pad(x.numpy().astype(np.float64), 5, mode="symmetric") for x in (a, b))
    C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for y in range(a.shape[0]):
        for x in range(a.shape[1]):
            p, q = padded_a[y : y + 11, x : x + 11], padded_b[y : y + 11, x : x + 11]
            covariance = (p * q).mean() - p.mean() * q.mean()
            top = (2 * p.mean() * q.mean() + C1) * (2 * covariance + C2)
            values.append(top / ((p.mean() ** 2 + q.mean() ** 2 + C1) * (p.var() + q.var() + C2)))
    return float(np.mean(values))


@pytest.mark.parametrize("size", [(14, 17), (3, 4)], ids=["larger than the window", "smaller than its border"])
def test_the_releases_ssim_is_its_definition_window_by_window(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (1, 3, *size), generator=generator, dtype=torch.uint8) for _ in range(2))
    expected = np.mean([naive_release_ssim(a[0, c], b[0, c]) for c in range(3)])
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("window", ["release", "gaussian"])
def test_ssim_is_one_for_equal_frames_and_falls_with_noise(window: SsimWindow) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(60, 190, (2, 3, 16, 20), generator=generator, dtype=torch.uint8)
    slight, strong = (a + torch.randint(0, n, a.shape, generator=generator, dtype=torch.uint8) for n in (9, 60))
    assert ssim(a, a, window).tolist() == pytest.approx([1.0, 1.0])
    assert (ssim(a, strong, window) < ssim(a, slight, window)).all()
    float_a, float_b = (x.float() / 127.5 - 1.0 for x in (a, strong))
    assert ssim(float_a, float_b, window).tolist() == pytest.approx(ssim(a, strong, window).tolist(), abs=1e-5)


def test_the_standard_ssim_of_two_flat_frames_is_their_luminance_term() -> None:
    a, b = (torch.full((1, 3, 11, 11), level, dtype=torch.uint8) for level in (100, 150))
    expected = (2 * 100 * 150 + 2.55**2) / (100**2 + 150**2 + 2.55**2)
    assert ssim(a, b, "gaussian").item() == pytest.approx(expected)


def test_frames_without_an_ssim_are_refused() -> None:
    video = torch.zeros(2, 3, 10, 12, dtype=torch.uint8)
    with pytest.raises(InputError, match="12x10; SSIM with a Gaussian window needs at least 11x11"):
        ssim(video, video, "gaussian")
    with pytest.raises(InputError, match=r"\(2, 3, 10, 12\) and \(1, 3, 10, 12\)"):
        ssim(video, video[:1])
    with pytest.raises(InputError, match="both must be uint8"):
        ssim(video, video.float())
    with pytest.raises(InputError, match="window is 'box'"):
        ssim(video, video, "box")  # type: ignore[arg-type]
