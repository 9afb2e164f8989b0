"""Frames reach MUSIQ as VBench gives them, and a missing package or file is named."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.evaluation.imaging_quality import ImagingQuality, fit


class Brightness(nn.Module):
    """In place of the library's network: a hundred times the mean."""

    def __init__(self, pretrained_model_path: str) -> None:
        super().__init__()
        assert Path(pretrained_model_path).is_file()

    def forward(self, frame: Tensor) -> Tensor:
        return 100 * frame.mean().reshape(1, 1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "musiq.pth"
    path.touch()
    return path


def test_every_frame_is_scored_alone(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa.archs.musiq_arch", SimpleNamespace(MUSIQ=Brightness))
    monkeypatch.setitem(sys.modules, "pyiqa.archs", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace())
    video = torch.stack([torch.full((3, 8, 8), level, dtype=torch.uint8) for level in (0, 51, 255)])
    score = ImagingQuality(weights)
    assert score(video).tolist() == pytest.approx([0.0, 20.0, 100.0])
    with pytest.raises(InputError, match=r"torch.float32 of shape \(3, 3, 8, 8\)"):
        score(video.float())


def test_a_large_frame_is_cut_to_512_and_a_small_one_left_alone() -> None:
    large = torch.full((1, 3, 720, 1280), 51, dtype=torch.uint8)
    assert fit(large).shape == (1, 3, 288, 512)
    assert fit(large).unique().tolist() == pytest.approx([0.2])
    assert fit(large[:, :, :513, :100]).shape == (1, 3, 512, int(512 / 513 * 100))
    small = torch.arange(192, dtype=torch.uint8).reshape(1, 3, 8, 8)
    assert torch.equal(fit(small), small.float() / 255)


def test_missing_weights_and_a_missing_library_are_named(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.pth' do not exist"):
        ImagingQuality(weights.parent / "nowhere.pth")
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(InputError, match="needs the package pyiqa"):
        ImagingQuality(weights)
