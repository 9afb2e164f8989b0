"""Frames agree with the cameras that come with them, to a small part of a pixel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.worlds.procedural import SceneAndPath, draw, lens_intrinsics, render_drawn
from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.layout import draw_layout, empty_surfaces
from sana_wm.worlds.procedural.materials import MATERIALS
from sana_wm.worlds.procedural.render import SAMPLE_OFFSETS, Renderer, surface_rows
from sana_wm.worlds.procedural.scene import BALLS, BOXES, COLUMNS, GROUND, WEDGES, Col, Env, Scene
from sana_wm.worlds.procedural.shade import View, make_view, nearest, rays, shade
from sana_wm.worlds.procedural.texture import bars, value_noise
from sana_wm.worlds.procedural.trace import trace_plain

H, W = 48, 80


def _pose(x: float = 0, y: float = -1.6, z: float = 0, yaw: float = 0, pitch: float = 0) -> Tensor:
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[cy, sy * sp, sy * cp], [0, cp, -sp], [-sy, cy * sp, cy * cp]])
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose


def _scene(row: int, x: float, z: float, half: tuple[float, float, float], y: float = -1.6) -> Scene:
    """A plain scene with one white solid on dark ground under a dark sky, lit evenly."""
    surfaces = empty_surfaces()
    surfaces[row, : Col.KZ + 1] = (x, y, z, 1, 0, *half, 0, 0)
    plain = dataclasses.replace(MATERIALS["plaster"], mottle=0.0)
    plain.write(surfaces[row], (1.0, 1.0, 1.0))
    plain.write(surfaces[GROUND], (0.0, 0.0, 0.0))
    environment = np.zeros(len(Env), np.float32)
    environment[Env.SUN_Y], environment[Env.DISC], environment[Env.ROAD_HALF] = -1, 2, -10
    environment[Env.AMBIENT_R : Env.AMBIENT_B + 1] = 1
    return Scene.stack([surfaces], [environment])


def _look(scene: Scene, *poses: Tensor, lens: float = 90.0, height: int = H, width: int = W) -> tuple[Tensor, Tensor]:
    intrinsics = lens_intrinsics([lens], len(poses), height, width)
    frames, depth = Renderer()(scene, torch.stack(poses)[None], intrinsics, height, width, with_depth=True)
    assert depth is not None
    return frames[0].float(), depth[0]


def _centre(frame: Tensor) -> tuple[float, float, float]:
    """Column, row and area of the bright solid."""
    weight = frame.mean(0)
    y, x = torch.meshgrid(torch.arange(weight.shape[0]), torch.arange(weight.shape[1]), indexing="ij")
    area = float(weight.sum())
    return float((weight * x).sum()) / area, float((weight * y).sum()) / area, area


def test_depth_is_planar_distance_and_the_sky_has_none() -> None:
    scene = _scene(0, 0, 5, (20, 0.5, 1))
    _, depth = _look(scene, _pose())
    on_box = torch.isclose(depth[0], torch.tensor(4.0), atol=1e-4)
    assert on_box[H // 2].all()  # planar: the same at the sides as in the middle
    assert torch.isinf(depth[0, 0]).all()
    fy = 0.5 * W
    expected = 1.6 / ((H - 1 - (H - 1) / 2) / fy)
    assert depth[0, -1, 0] == pytest.approx(expected, rel=1e-5)  # flat ground at y = 0


@pytest.mark.parametrize("row", [BOXES.start, WEDGES.start, COLUMNS.start, BALLS.start])
def test_axes_follow_opencv(row: int) -> None:
    scene = _scene(row, 0, 6, (0.8, 0.8, 0.8))
    frames, _ = _look(
        scene, _pose(), _pose(yaw=0.15), _pose(pitch=0.1), _pose(x=0.5), _pose(y=-1.9), _pose(z=1.5), lens=80
    )
    x, y, area = _centre(frames[0])
    assert x == pytest.approx((W - 1) / 2, abs=0.05)
    assert y == pytest.approx((H - 1) / 2, abs=1.0)
    assert _centre(frames[1])[0] < x - 2  # yaw right: content moves left
    assert _centre(frames[2])[1] > y + 1  # pitch up: content moves down
    assert _centre(frames[3])[0] < x - 2  # a step right: content moves left
    assert _centre(frames[4])[1] > y + 1  # a step up: content moves down
    assert _centre(frames[5])[2] > 1.3 * area  # a step forward: content grows


def test_pixel_centres_lie_at_integers() -> None:
    focal, cx, column = 40.0, 33.0, 50
    edge = (column - cx) / focal * 4.0  # the right edge of a box face at z = 4 projects to column 50 exactly
    scene = _scene(0, edge - 5, 4 + 1, (5, 0.5, 1))
    intrinsics = torch.tensor([[[focal, focal, cx, 23.0]]])
    frames, _ = Renderer()(scene, _pose()[None, None], intrinsics, H, W)
    line = frames[0, 0, 0, 23].float()
    assert line[column - 1] > 150
    assert line[column + 1] == 0
    assert line[column] == pytest.approx(float(line[column - 1]) / 2, abs=1.5)  # half of that pixel is covered


@pytest.mark.parametrize("samples", SAMPLE_OFFSETS)
def test_samples_lie_symmetrically_around_the_pixel_centre(samples: int) -> None:
    offsets = np.array(SAMPLE_OFFSETS[samples])
    assert len(offsets) == samples
    assert np.allclose(offsets.mean(0), 0)
    assert np.abs(offsets).max() < 0.5


@pytest.mark.parametrize("seed", [3, 4, 9, 21])
def test_points_carried_by_depth_agree_between_views_to_a_twentieth_of_a_pixel(seed: int) -> None:
    drawn = draw(seed, 33)
    scene = Scene.stack([drawn.surfaces], [drawn.environment])
    first, second = (torch.from_numpy(drawn.c2w[i]) for i in (0, 32))
    intrinsics = lens_intrinsics([drawn.lens], 1, H, W)[0]
    fx, fy, cx, cy = intrinsics[0].tolist()
    y, x = (v.flatten().float() for v in torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"))

    def see(pose: Tensor, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor]:
        view = make_view(scene.surfaces, scene.environment, pose[None], intrinsics, px, py)
        depth, row = nearest(view, rays(view))
        return depth[0], row[0]

    def lift(pose: Tensor, px: Tensor, py: Tensor, depth: Tensor) -> Tensor:
        return (
            torch.stack([(px - cx) / fx, (py - cy) / fy, torch.ones_like(px)], -1) * depth[:, None] @ pose[:3, :3].T
            + pose[:3, 3]
        )

    def project(pose: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        camera = (points - pose[:3, 3]) @ pose[:3, :3]
        return fx * camera[:, 0] / camera[:, 2] + cx, fy * camera[:, 1] / camera[:, 2] + cy, camera[:, 2]

    depth, row = see(first, x, y)
    near = depth < 30
    x, y, depth, row = x[near], y[near], depth[near], row[near]
    u, v, z = project(second, lift(first, x, y, depth))
    inside = (z > 0.3) & (u > -0.5) & (u < W - 0.5) & (v > -0.5) & (v < H - 0.5)
    x, y, row, u, v, z = x[inside], y[inside], row[inside], u[inside], v[inside], z[inside]
    there, row_there = see(second, u, v)
    same = (row_there == row) & ((there - z).abs() < 3e-3 * z)  # not hidden, nor beyond a ball's own limb
    assert same.float().mean() > 0.7
    assert not ((there > 1.02 * z) & (row < GROUND)).float().mean() > 0.02  # nobody sees through a solid
    back_x, back_y, _ = project(first, lift(second, u, v, there))
    error = torch.hypot(back_x - x, back_y - y)[same]
    assert error.max() < 0.05
    assert error.median() < 1e-3


def test_every_shape_is_hit_where_it_stands() -> None:
    for row, shape_area in ((BOXES.start, 1.0), (WEDGES.start, 0.5), (COLUMNS.start, 1.0), (BALLS.start, np.pi / 4)):
        scene = _scene(row, 0, 100, (1, 1, 1))
        if row == WEDGES.start:
            scene.surfaces[0, row, [Col.KX, Col.KZ]] = 1.0
        intrinsics = torch.tensor([[[1000.0, 1000.0, 39.5, 23.5]]])
        rows = surface_rows(scene, _pose()[None, None], intrinsics, H, W)
        area = float((rows == row).sum()) * (100 / 1000) ** 2 / 4
        assert area == pytest.approx(shape_area, rel=0.1)


def test_solids_cast_a_shadow_away_from_the_sun() -> None:
    scene = _scene(BALLS.start, 0, 8, (1, 1, 1), y=-1.0)
    scene.surfaces[0, GROUND, Col.R1 : Col.B1 + 1] = 0.5
    env = scene.environment[0]
    env[Env.SUN_X : Env.SUN_Z + 1] = torch.tensor([-0.7071, -0.7071, 0.0])
    env[Env.SUN_R : Env.SUN_B + 1] = 1.0
    env[Env.AMBIENT_R : Env.AMBIENT_B + 1] = 0.3
    frames, _ = _look(scene, _pose(), lens=80)
    row = int(23.5 + (0.5 * W / np.tan(np.radians(40))) * 1.6 / 8)  # ground at the ball's distance
    left, right = frames[0, 0, row, 15], frames[0, 0, row, 39 + 8]
    assert right < 0.6 * left


def test_chunks_and_rows_do_not_change_the_picture() -> None:
    drawn = draw(31, 2)
    whole, _, _, depth = render_drawn([drawn], H, W, "cpu", Renderer(samples_per_chunk=2**20), with_depth=True)
    parts, _, _, part_depth = render_drawn(
        [drawn], H, W, "cpu", Renderer(samples_per_chunk=20 * W * 4), with_depth=True
    )
    assert torch.equal(whole, parts)
    assert depth is not None
    assert part_depth is not None
    assert torch.equal(depth, part_depth)


def test_far_textures_do_not_alias() -> None:
    drawn = [dataclasses.replace(d, c2w=d.c2w[:1]) for d in (draw(seed, 9) for seed in (2, 42))]
    frames, _, _, _ = render_drawn(drawn, H, W, "cpu", Renderer(samples=4))
    lone, _, _, _ = render_drawn(drawn, H, W, "cpu", Renderer(samples=1))
    fine = Renderer(samples=1)
    big = []
    for d in drawn:
        scene = Scene.stack([d.surfaces], [d.environment])
        k = lens_intrinsics([d.lens], 1, H, W) * 4
        k[..., 2:] += 1.5  # integer pixel centres: x_big = 4 x + 1.5
        big.append(fine(scene, torch.from_numpy(d.c2w)[None], k, 4 * H, 4 * W)[0])
    reference = torch.cat(big).float().unflatten(-1, (W, 4)).unflatten(-3, (H, 4)).mean((-1, -3))

    def psnr(picture: Tensor) -> float:
        return float(10 * torch.log10(255**2 / (picture.float() - reference).square().mean()))

    assert psnr(frames) > 32
    assert psnr(frames) > psnr(lone) + 3


def test_bars_are_the_exact_average_over_the_footprint() -> None:
    x = torch.linspace(-3, 3, 41, dtype=torch.float64)
    share = torch.full_like(x, 0.3)
    for width in (0.11, 0.8, 2.7):
        sub = x[:, None] + (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000 * width - 0.5 * width
        expected = ((sub + 0.15) % 1.0 < 0.3).double().mean(1)
        torch.testing.assert_close(bars(x, share, torch.full_like(x, width)), expected, atol=2e-3, rtol=0)


def test_noise_is_continuous_and_varied() -> None:
    x = torch.linspace(0, 30, 20001)
    noise = value_noise(x, 0.37 * x + 2)
    assert (noise[1:] - noise[:-1]).abs().max() < 0.02
    assert noise.std() > 0.25
    assert noise.abs().max() <= 1


def test_shapes_that_do_not_fit_are_refused() -> None:
    scene = _scene(0, 0, 5, (1, 1, 1))
    with pytest.raises(InputError, match="c2w"):
        Renderer()(scene, torch.eye(4).expand(2, 3, 4, 4), torch.ones(2, 3, 4), H, W)
    with pytest.raises(InputError, match="intrinsics"):
        Renderer()(scene, torch.eye(4).expand(1, 3, 4, 4), torch.ones(1, 2, 4), H, W)
    with pytest.raises(InputError, match="samples"):
        Renderer(samples=3)


def test_pictures_use_the_range_of_brightness_in_every_hour() -> None:
    for seed in range(60, 68):
        d = draw(seed, 9)
        d = SceneAndPath(d.surfaces, d.environment, d.c2w[:1], d.lens, d.caption)
        frames, _, _, _ = render_drawn([d], H, W, "cpu", Renderer(samples=1))
        assert frames.float().std() > 12
        assert (frames == 255).all(2).float().mean() < 0.2


def _small_view() -> View:
    generator = torch.Generator().manual_seed(0)
    layout = draw_layout(Draws(generator), np.eye(4, dtype=np.float32)[None].repeat(2, 0))
    scene = Scene.stack([layout.surfaces], [layout.environment])
    y, x = (v.flatten().float() for v in torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"))
    intrinsics = lens_intrinsics([75.0], 1, H, W)[0]
    return make_view(scene.surfaces, scene.environment, _pose()[None], intrinsics, x, y)


def test_shading_is_one_graph_without_branches_on_data() -> None:
    view = _small_view()
    hits = trace_plain(view)
    program = torch.export.export(_Shading(), (*hits, *view), strict=False)
    for a, b in zip(program.module()(*hits, *view), shade(view, *hits), strict=True):
        assert torch.equal(a, b)


class _Shading(torch.nn.Module):
    def forward(self, depth: Tensor, row: Tensor, shadow: Tensor, *view: Tensor) -> tuple[Tensor, ...]:
        return shade(View(*view), depth, row, shadow)
