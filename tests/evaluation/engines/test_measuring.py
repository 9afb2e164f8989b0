"""What an engine gives is measured in the video: never guessed, never taken from the truth."""

from __future__ import annotations

import math

import pytest
import torch

from sana_wm.evaluation.engines import TrueViews, make_engine
from sana_wm.evaluation.pose_error import pose_errors, rotation_angles_deg
from tests.evaluation.engines.views import along, forward_path, scene, views

INSTALL = "pip install sana-wm[evaluation]"


@pytest.fixture(scope="module")
def truth() -> TrueViews:
    pytest.importorskip("cv2", reason=INSTALL)
    pytest.importorskip("pycolmap", reason=INSTALL)
    return views(along(scene(), forward_path(1.2, 12.0)))


@pytest.mark.parametrize("engine", ["gt-pnp", "pycolmap"])
def test_frames_that_show_something_else_have_no_pose(engine: str, truth: TrueViews) -> None:
    """The picture breaks off: the frames before have poses, those after have none, and no error is raised."""
    frames = truth.frames.clone()
    generator = torch.Generator().manual_seed(0)
    frames[6:] = torch.randint(256, frames[6:].shape, generator=generator, dtype=torch.uint8)
    found = make_engine(engine, truth).estimate(frames, truth.intrinsics)
    assert found.valid.tolist() == [True] * 6 + [False] * (len(frames) - 6)
    assert pose_errors(truth.c2w, found.c2w, valid=found.valid).rot_err < 0.5


def test_even_the_first_pose_is_measured(truth: TrueViews) -> None:
    """A video that begins 8 cm beside the true first frame, and turned by 2 degrees, is found to do so."""
    beside = torch.eye(4)
    angle = math.radians(2.0)
    beside[0, 3], beside[0, 0], beside[2, 2] = 0.08, math.cos(angle), math.cos(angle)
    beside[0, 2], beside[2, 0] = math.sin(angle), -math.sin(angle)
    video = views(along(scene(), beside @ forward_path(0.8, 6.0)))
    found = make_engine("gt-pnp", truth).estimate(video.frames, video.intrinsics)
    assert found.registered == 1.0
    assert float((found.c2w[:, :3, 3] - video.c2w[:, :3, 3]).norm(dim=1).max()) < 0.04
    assert float(rotation_angles_deg(found.c2w[:, :3, :3].mT @ video.c2w[:, :3, :3].double()).max()) < 0.5
    assert float((found.c2w[0, :3, 3] - truth.c2w[0, :3, 3]).norm()) > 0.05


@pytest.mark.parametrize("engine", ["gt-pnp", "pycolmap"])
def test_the_lens_that_is_given_is_kept(engine: str, truth: TrueViews) -> None:
    """Through a lens said to be longer than it is, the same pictures mean another turn; refining it would undo that."""
    longer = truth.intrinsics * torch.tensor([1.3, 1.3, 1.0, 1.0])
    turns = []
    for lens in (truth.intrinsics, longer):
        found = make_engine(engine, truth).estimate(truth.frames, lens)
        ends = found.c2w[found.valid][[0, -1], :3, :3]
        turns.append(float(rotation_angles_deg(ends[0].mT @ ends[1])))
    assert turns[0] == pytest.approx(12.0, abs=0.7)
    assert abs(turns[1] - turns[0]) > 1.2


def test_a_lens_that_is_not_given_is_found_roughly(truth: TrueViews) -> None:
    found = make_engine("pycolmap").estimate(truth.frames, None)
    assert found.registered == 1.0
    assert pose_errors(truth.c2w, found.c2w, valid=found.valid).rot_err < 3.0


@pytest.mark.parametrize("engine", ["gt-pnp", "pycolmap"])
def test_nothing_is_printed(engine: str, truth: TrueViews, capfd: pytest.CaptureFixture[str]) -> None:
    make_engine(engine, truth).estimate(truth.frames, truth.intrinsics)
    make_engine(engine, truth).estimate(torch.zeros_like(truth.frames), truth.intrinsics)
    said = capfd.readouterr()
    assert said.out + said.err == ""
