"""Pose engines find the camera of the video they are given, and say so where they find none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.evaluation.engines import ENGINES, TrueViews, make_engine
from sana_wm.evaluation.engines.pi3 import network_size
from sana_wm.evaluation.engines.structure import EXHAUSTIVE, compared_pairs
from sana_wm.evaluation.engines.vipe import read_poses
from sana_wm.evaluation.pose_error import pose_errors
from tests.evaluation.engines.views import along, forward_path, scene, views

INSTALL = "pip install sana-wm[evaluation]"


@pytest.fixture(scope="module")
def truth() -> TrueViews:
    pytest.importorskip("cv2", reason=INSTALL)
    pytest.importorskip("pycolmap", reason=INSTALL)
    return views(along(scene(), forward_path(1.2, 12.0)))


def travelled(c2w: Tensor) -> float:
    return float(c2w[:, :3, 3].diff(dim=0).norm(dim=1).sum())


@pytest.mark.parametrize("engine", ["gt-pnp", "pycolmap"])
def test_a_walk_is_recovered(engine: str, truth: TrueViews) -> None:
    found = make_engine(engine, truth).estimate(truth.frames, truth.intrinsics)
    errors = pose_errors(truth.c2w, found.c2w, valid=found.valid)
    assert errors.registered == 1.0
    assert errors.rot_err < 0.5
    assert errors.trans_err < 0.04 * travelled(truth.c2w)


@pytest.mark.parametrize("engine", ["gt-pnp", "pycolmap"])
def test_the_same_video_gives_the_same_poses(engine: str, truth: TrueViews) -> None:
    first, second = (make_engine(engine, truth).estimate(truth.frames, truth.intrinsics) for _ in range(2))
    assert torch.equal(first.c2w, second.c2w)
    assert torch.equal(first.valid, second.valid)


@pytest.mark.parametrize(
    ("metres", "yaw"), [(1.2, -12.0), (0.4, 12.0), (0.0, 10.0)], ids=["mirrored", "slower", "turning"]
)
def test_the_camera_of_the_video_counts_and_not_the_true_one(metres: float, yaw: float, truth: TrueViews) -> None:
    """In the true frame and in metres, without any alignment: gt-pnp knows the truth, but must not lean on it."""
    video = views(along(scene(), forward_path(metres, yaw)))
    found = make_engine("gt-pnp", truth).estimate(video.frames, video.intrinsics)
    assert found.registered == 1.0
    own, true = ((found.c2w - c2w.double()).flatten(1).norm(dim=1).max() for c2w in (video.c2w, truth.c2w))
    assert float(own) < 0.07
    assert float(true) > 0.15


@pytest.mark.parametrize("engine", ["gt-pnp", "pycolmap"])
@pytest.mark.parametrize("kind", ["flat", "noise"])
def test_a_video_that_shows_nothing_has_no_poses(engine: str, kind: str, truth: TrueViews) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.full_like(truth.frames, 90)
    if kind == "noise":
        frames = torch.randint(256, frames.shape, generator=generator, dtype=torch.uint8)
    found = make_engine(engine, truth).estimate(frames, truth.intrinsics)
    assert found.registered <= 1 / len(frames)
    assert torch.equal(
        found.c2w[~found.valid], torch.eye(4, dtype=torch.float64).expand(int((~found.valid).sum()), 4, 4)
    )


def test_a_larger_video_of_the_same_world_is_understood(truth: TrueViews) -> None:
    """The true views may have another size than the video."""
    video = views(along(scene(), forward_path(1.2, 12.0)), size=(180, 300))
    found = make_engine("gt-pnp", truth).estimate(video.frames, video.intrinsics)
    assert pose_errors(video.c2w, found.c2w, valid=found.valid).rot_err < 0.5


@pytest.mark.parametrize("engine", ["gt-pnp", "pycolmap"])
@pytest.mark.parametrize("what", ["float", "grey", "one", "lens", "focal"])
def test_wrong_input_is_named(engine: str, what: str, truth: TrueViews) -> None:
    frames, lens = truth.frames, truth.intrinsics.clone()
    frames = {"float": frames.float(), "grey": frames[:, :1], "one": frames[:1]}.get(what, frames)
    if what == "lens":
        lens = lens[:-1]
    if what == "focal":
        lens[0, 0] = 0
    with pytest.raises(InputError, match="intrinsics" if what in ("lens", "focal") else "frames are"):
        make_engine(engine, truth).estimate(frames, lens if what != "one" else lens[:1])


def test_an_engine_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pose engines are pycolmap, gt-pnp"):
        make_engine("colmap")
    with pytest.raises(InputError, match="needs the true render"):
        make_engine("gt-pnp")
    with pytest.raises(InputError, match="has no setting 'depth'"):
        make_engine("pycolmap", depth=1)
    with pytest.raises(InputError, match="needs the package pi3"):
        make_engine("pi3")
    with pytest.raises(InputError, match=r"no-such-program.* is not there"):
        make_engine("vipe", command="no-such-program")
    assert len(ENGINES) == 5


def test_networks_see_pictures_of_the_published_size() -> None:
    assert network_size(720, 1280) == (378, 672)
    height, width = network_size(192, 320)
    assert height % 14 == width % 14 == 0
    assert height * width <= 255_000


def test_poses_of_vipe_are_read(tmp_path: Path) -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 2.0
    np.savez(tmp_path / "a.npz", data=poses, inds=np.array([0, 3]))
    found = read_poses(tmp_path / "a.npz", 4)
    assert found.valid.tolist() == [True, False, False, True]
    assert float(found.c2w[3, 0, 3]) == 2.0
    np.savez(tmp_path / "b.npz", data=poses)
    with pytest.raises(InputError, match="no array 'inds'"):
        read_poses(tmp_path / "b.npz", 4)
    with pytest.raises(InputError, match="for 2 of 3 frames"):
        read_poses(tmp_path / "a.npz", 3)
    with pytest.raises(InputError, match="left no poses"):
        read_poses(tmp_path / "none.npz", 3)


def test_a_failing_program_is_reported(tmp_path: Path) -> None:
    program = tmp_path / "vipe"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('out of memory')\n")
    program.chmod(0o755)
    assert subprocess.run([program], capture_output=True, check=False).returncode == 1
    with pytest.raises(InputError, match="exit status 1: out of memory"):
        make_engine("vipe", command=str(program)).estimate(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), None)


@pytest.mark.parametrize("count", [2, EXHAUSTIVE, EXHAUSTIVE + 141])
def test_all_pictures_are_compared_with_their_neighbours_and_some_with_far_ones(count: int) -> None:
    pairs = compared_pairs(count)
    assert len(set(pairs)) == len(pairs)
    assert all(0 <= a < b < count for a, b in pairs)
    assert {(a, a + 1) for a in range(count - 1)} <= set(pairs)
    assert (0, count - 1 - (count - 1) % 8) in pairs or count < 9
    assert len(pairs) <= max(EXHAUSTIVE * (EXHAUSTIVE - 1) // 2, 14 * count)
