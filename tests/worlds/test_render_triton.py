"""The Triton kernels draw what the plain renderer draws."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.interpreted import needs_triton, run_interpreted
from torch import Tensor

from sana_wm.worlds.procedural import SceneAndPath, draw, lens_intrinsics, render_drawn
from sana_wm.worlds.procedural.render import SAMPLE_OFFSETS, Renderer
from sana_wm.worlds.procedural.scene import GROUND, SKY, Col, Env, Scene
from sana_wm.worlds.procedural.shade import View, make_view
from sana_wm.worlds.procedural.trace import Hits, trace, trace_plain

H, W = 24, 40

Kind = Callable[[np.ndarray, Tensor, float], bool]
"""Reads the environment, the light of the windows at every pixel, and the share of sky in the picture."""

KINDS: dict[str, Kind] = {
    "lit windows": lambda env, glow, sky: env[Env.ZENITH_B] < 0.2 and (glow > 0).float().mean().item() > 0.1,
    "fog": lambda env, glow, sky: env[Env.FOG] > 0.02 and sky < 0.5,
    "road": lambda env, glow, sky: env[Env.ROAD_HALF] > 0 and env[Env.ROAD_DASH] > 0 and sky < 0.3,
    "clouds": lambda env, glow, sky: env[Env.CLOUDS] > 0.3 and sky > 0.3,
    "mountains": lambda env, glow, sky: env[Env.RIDGE] > 0.1 and env[Env.CLOUDS] == 0 and sky > 0.3,
}


def _some_of_each() -> list[SceneAndPath]:
    found: dict[str, SceneAndPath] = {}
    for seed in range(500):
        drawn = draw(seed, 2)
        row = trace_plain(_first_views([drawn])).row[0]
        glow = torch.from_numpy(drawn.surfaces)[row.long(), Col.GLOW]
        sky = (row == SKY).float().mean().item()
        found = {name: drawn for name, kind in KINDS.items() if kind(drawn.environment, glow, sky)} | found
        if len(found) == len(KINDS):
            break
    return [found[name] for name in KINDS]


def _first_views(drawn: list[SceneAndPath], device: str = "cpu") -> View:
    scene = Scene.stack([d.surfaces for d in drawn], [d.environment for d in drawn])
    c2w = torch.stack([torch.from_numpy(d.c2w[0]) for d in drawn])
    intrinsics = lens_intrinsics([d.lens for d in drawn], 1, H, W)[:, 0]
    y, x = (v.flatten().float() for v in torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"))
    return make_view(*(t.to(device) for t in (scene.surfaces, scene.environment, c2w, intrinsics, x, y)))


def _same_hits(a: Hits, b: Hits) -> dict[str, float]:
    """Shares of the samples that agree."""
    near = (a.depth - b.depth).abs() <= 1e-4 * b.depth
    same = {"depth": near, "row": a.row == b.row, "shadow": (a.shadow == b.shadow)[b.row <= GROUND]}
    return {name: agree.float().mean().item() for name, agree in same.items()}


def _same_pictures(a: Tensor, b: Tensor) -> float:
    return ((a.int() - b.int()).abs() <= 2).float().mean().item()


def _main() -> None:
    """What the subprocess does: compare in Triton's interpreter, print the shares that agree."""
    from sana_wm.worlds.procedural.render_triton import render_triton
    from sana_wm.worlds.procedural.trace_triton import trace_triton

    torch.set_num_threads(1)
    drawn = _some_of_each()
    view = _first_views(drawn)
    plain = trace_plain(view)
    shares = _same_hits(Hits(*trace_triton(view)), plain)
    shares["sky"], shares["solids"] = (rows.float().mean().item() for rows in (plain.row == SKY, plain.row < GROUND))
    scene = Scene(view.surfaces, view.environment)
    c2w = torch.stack([torch.from_numpy(d.c2w[:1]) for d in drawn])
    expected, _ = Renderer(samples=2)(scene, c2w, view.intrinsics[:, None], H, W)
    actual = render_triton(view, H, W, SAMPLE_OFFSETS[2], block=1024)
    for kind, a, b in zip(KINDS, actual, expected[:, 0], strict=True):
        shares[kind] = _same_pictures(a, b)
    print(json.dumps(shares))


@needs_triton
def test_interpreted_kernels_agree_with_the_plain_renderer() -> None:
    shares = run_interpreted(__file__)
    assert shares.pop("sky") > 0.1
    assert shares.pop("solids") > 0.1
    assert all(share >= 0.999 for share in shares.values()), shares


@pytest.mark.gpu
@pytest.mark.parametrize("samples", SAMPLE_OFFSETS)
def test_a_gpu_draws_the_picture_of_the_cpu(samples: int) -> None:
    drawn = _some_of_each()
    fused, _, _, fused_depth = render_drawn(drawn, H, W, "cuda", Renderer(samples), with_depth=True)
    plain, _, _, plain_depth = render_drawn(drawn, H, W, "cpu", Renderer(samples), with_depth=True)
    assert _same_pictures(fused.cpu(), plain) > 0.995
    assert fused_depth is not None
    assert plain_depth is not None
    torch.testing.assert_close(fused_depth.isinf().cpu(), plain_depth.isinf())


@pytest.mark.gpu
def test_a_gpu_meets_the_same_solids_as_the_plain_loop() -> None:
    view = _first_views(_some_of_each(), "cuda")
    assert min(_same_hits(trace(view), trace_plain(view)).values()) > 0.995


if __name__ == "__main__":
    _main()
