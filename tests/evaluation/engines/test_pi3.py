"""The adapter of Pi3 and Pi3X gives the network what it was trained on, and gives back what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from sana_wm.evaluation.engines import make_engine

PACKAGE = '''
import torch

class Pi3X(torch.nn.Module):
    """Answers with the mean brightness of each picture as the distance that the camera has moved."""

    @classmethod
    def from_pretrained(cls, name):
        network = cls()
        network.name = name
        return network

    def forward(self, pictures):
        self.seen = pictures
        poses = torch.eye(4).repeat(*pictures.shape[:2], 1, 1)
        poses[..., 0, 3] = pictures.mean((2, 3, 4))
        poses[:, 1, 0, 0] = float("nan")
        return {"camera_poses": poses}
'''


def test_pictures_go_in_and_poses_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pi3" / "models"
    folder.mkdir(parents=True)
    (folder / "pi3x.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    frames = torch.stack([torch.full((3, 72, 128), value, dtype=torch.uint8) for value in (0, 102, 255)])
    try:
        engine = make_engine("pi3x", device="cpu")
        found = engine.estimate(frames, None)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "pi3"]:
            del sys.modules[name]
    network = engine.model  # type: ignore[attr-defined]
    assert network.name == "yyfz233/Pi3X"
    assert network.seen.shape == (1, 3, 3, 378, 672)
    assert found.valid.tolist() == [True, False, True]
    assert found.c2w[:, 0, 3].tolist() == pytest.approx([0.0, 0.0, 1.0])
    assert torch.equal(found.c2w[1], torch.eye(4, dtype=torch.float64))
