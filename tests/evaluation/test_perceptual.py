"""LPIPS comes from its own library, at the release's settings, and says what to install where that is missing."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.evaluation.perceptual import Lpips


class Distance(nn.Module):
    """In place of the library's network: mean absolute difference of what it is given, in its output shape."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        assert max(a.abs().max(), b.abs().max()) <= 1
        return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Distance))


@pytest.mark.usefixtures("library")
def test_bytes_and_floats_reach_the_network_in_minus_one_to_one() -> None:
    a, b = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    b[1] = 0
    measure = Lpips()
    assert measure(a, b).tolist() == [2.0, 0.0]
    assert measure(a.float() / 127.5 - 1, b.float() / 127.5 - 1).tolist() == [2.0, 0.0]
    assert measure._network.settings == {"net": "alex", "version": "0.1", "verbose": False}


@pytest.mark.usefixtures("library")
def test_videos_without_a_distance_are_refused() -> None:
    video = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(InputError, match=r"\(2, 3, 8, 8\) and \(1, 3, 8, 8\)"):
        Lpips()(video, video[:1])
    with pytest.raises(InputError, match="int64"):
        Lpips()(video.long(), video.long())


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(InputError, match=r"needs the package lpips.*install the extra \[perceptual\]"):
        Lpips()


def test_weights_that_cannot_be_had_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: object) -> ModuleType:
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=refuse))
    with pytest.raises(InputError, match=r"weights of AlexNet.*no route to host"):
        Lpips()
