"""Are the cameras of the Doom world right?

A player at rest sees frame A, then walks and turns and sees frame B at full speed. Pixels of A, with their depth, are
projected into B with the camera under test; small patches then say by how many pixels the picture of B really lies
beside the prediction. The same frames are also measured with cameras that are wrong on purpose, which shows that the
measure can fail.

Run: ``python benchmarks/doom_reprojection.py [--pairs 6] [--levels MAP01 E1M1 ...]``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sana_wm.worlds.doom.camera import HEIGHT_STRETCH, UNITS_PER_METRE, choose_lens
from sana_wm.worlds.doom.engine import Engine, wad_path
from sana_wm.worlds.doom.level import Level
from sana_wm.worlds.doom.wad import read_map
from sana_wm.worlds.doom.wander import Motion

PATCH, RADIUS, STEP = 11, 10.0, 1.0  # pixels: side of a patch, search radius and search step
_LEVEL_UNITS = (
    9.0  # a plane of the plan must be this near the engine's 8-bit depth (one of its levels is 7.1 map units)
)


@dataclass(frozen=True)
class Pair:
    """Two views; images ``(3, H, W)`` float, ``c2w (4, 4)``, ``intrinsics (4,)``, patches of A with their depth.

    ``centres (K, 2)`` are x, y of the patches in A, ``depth (K, PATCH, PATCH)`` metres along z. ``c2w_before`` is the
    camera of B one tic earlier.
    """

    image_a: Tensor
    image_b: Tensor
    c2w_a: Tensor
    c2w_b: Tensor
    c2w_before: Tensor
    intrinsics: Tensor
    centres: Tensor
    depth: Tensor


def snap_depth(
    level: Level,
    c2w: NDArray[np.float32],
    intrinsics: Sequence[float],
    uv: NDArray[np.float64],
    rough: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return exact depths ``(N,)`` metres of pixels ``uv (N, 2)`` near the ``rough`` depths; nan where no plane is
    near.

    The plane is the floor or the ceiling of the sector there, or the wall nearest to the rough depth.
    """
    fx, fy, cx, cy = intrinsics
    right, forward = c2w[[0, 2], 0].astype(float), c2w[[0, 2], 2].astype(float)
    place, eye = c2w[[0, 2], 3].astype(float) * UNITS_PER_METRE, -c2w[1, 3] * UNITS_PER_METRE / HEIGHT_STRETCH
    rays = forward + (uv[:, :1] - cx) / fx * right
    rough_units = np.where(np.isfinite(rough), rough, 1e4) * UNITS_PER_METRE  # no plane is near that
    sector = level.sector_at(place + rough_units[:, None] * rays)
    drop = (uv[:, 1] - cy) / fy / HEIGHT_STRETCH  # map units down for every unit along z
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = (eye - level.plan.floor[sector]) / drop
        ceiling = (eye - level.plan.ceiling[sector]) / drop
        ends = level.plan.ends[level.near(place, 1536.0, np.ones_like(level.solid))]
        ax, ay = (ends[:, 0] - place).T
        ex, ey = (ends[:, 1] - ends[:, 0]).T
        dx, dy = rays[:, :1], rays[:, 1:]
        cross = dx * ey - dy * ex
        wall = (ax * ey - ay * ex) / cross
        share = (ax * dy - ay * dx) / cross
        wall = np.where((share >= 0) & (share <= 1) & (wall > 0), wall, 1e9)
    nearest = np.abs(wall - rough_units[:, None]).argmin(axis=1)
    planes = np.stack((floor, ceiling, wall[np.arange(len(uv)), nearest]), axis=1)
    planes = np.where(np.isfinite(planes) & (planes > 0), planes, 1e9)
    best = planes[np.arange(len(uv)), np.abs(planes - rough_units[:, None]).argmin(axis=1)]
    return np.where((np.abs(best - rough_units) < _LEVEL_UNITS) & (sector >= 0), best, np.nan) / UNITS_PER_METRE


def pick_patches(image: Tensor, count: int) -> Tensor:
    """Return centres ``(K, 2)`` (x, y) of up to ``count`` cornered patches of ``image (3, H, W)``, one a 16x16 cell."""
    grey = image.mean(0)[None, None]
    gy, gx = torch.gradient(grey[0, 0])
    pool = lambda g: functional.avg_pool2d(g[None, None], PATCH, 1, PATCH // 2)[0, 0]  # noqa: E731
    xx, yy, xy = pool(gx * gx), pool(gy * gy), pool(gx * gy)
    corner = (xx + yy) / 2 - ((xx - yy) ** 2 / 4 + xy**2).sqrt()
    margin = PATCH
    corner[:margin], corner[-margin:], corner[:, :margin], corner[:, -margin:] = 0, 0, 0, 0
    best, where = functional.max_pool2d(corner[None, None], 16, return_indices=True)
    best, where = best.flatten(), where.flatten()
    keep = best.argsort(descending=True)[:count]
    keep = keep[best[keep] > 4.0]
    return torch.stack((where[keep] % image.shape[2], where[keep] // image.shape[2]), dim=1)


def take_pair(engine: Engine, level: Level, rng: np.random.Generator, patches: int = 40) -> Pair | None:
    """Return a pair at a random place of ``level`` (None where the place shows too little)."""
    place = level.places(rng, 1)[0]
    heading, fov = rng.uniform(0, 2 * np.pi), engine.lens.game_fov(rng.uniform(65, 85))
    if not engine.place(place, heading, fov):
        return None
    a = engine.view()
    # The kinds of motion take turns by chance: walk, strafe, back and turn, all at full speed when B is seen.
    turn, ahead, right = rng.uniform(1.0, 3.0) * rng.choice((-1, 1)), rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12)
    # Crouching moves the camera down by up to 0.77 m; without it heights and fy would not be tested at all.
    engine.command("+crouch" if rng.random() < 0.5 else "-crouch")
    before = a
    for _ in range(int(rng.integers(2, 6))):
        before = engine.view()
        engine.move(Motion(ahead, right, turn))
    b = engine.view()
    engine.command("-crouch")
    if a is None or b is None or before is None or a.depth is None or a.frame.std() < 10 or a.frame.mean() < 12:
        return None
    k = torch.tensor(engine.lens.intrinsics(b.game_fov), dtype=torch.float64)
    image = torch.from_numpy(a.frame).float()
    centres = pick_patches(image, patches)
    offsets = np.stack(np.meshgrid(np.arange(PATCH), np.arange(PATCH)), axis=-1) - PATCH // 2  # (P, P, 2) as x, y
    uv = centres.numpy()[:, None, None] + offsets
    if len(uv) == 0:
        return None
    rough = a.depth[uv[..., 1], uv[..., 0]].astype(np.float64)
    depth = snap_depth(level, a.c2w, k.tolist(), uv.reshape(-1, 2).astype(np.float64), rough.ravel()).reshape(
        rough.shape
    )
    # A patch across an edge has two motions; only patches on one smooth surface are measured.
    smooth = np.isfinite(depth).all((1, 2)) & (depth.max((1, 2)) < 1.3 * depth.min((1, 2)))
    # One tic is half a frame.
    middle = torch.from_numpy(b.c2w.astype(np.float64)).clone()
    middle[:3, 3] = torch.from_numpy((b.c2w[:3, 3] + before.c2w[:3, 3]).astype(np.float64) / 2)
    half = (b.heading + before.heading) / 2 if abs(b.heading - before.heading) < np.pi else b.heading
    middle[:3, 0] = torch.tensor((np.sin(half), 0, -np.cos(half)))
    middle[:3, 2] = torch.tensor((np.cos(half), 0, np.sin(half)))
    return Pair(
        image,
        torch.from_numpy(b.frame).float(),
        torch.from_numpy(a.c2w.astype(np.float64)),
        torch.from_numpy(b.c2w.astype(np.float64)),
        middle,
        k,
        centres[torch.from_numpy(smooth)],
        torch.from_numpy(depth[smooth]),
    )


def offsets(pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the offsets ``(K, 2)`` pixels from predicted to seen position in B, and the correlation ``(K,)`` found
    there.

    Patches whose prediction leaves the picture are left out.
    """
    fx, fy, cx, cy = pair.intrinsics
    height, width = pair.image_a.shape[1:]
    span = torch.arange(PATCH) - PATCH // 2
    u = (pair.centres[:, 0, None, None] + span).expand(-1, PATCH, -1)
    v = (pair.centres[:, 1, None, None] + span[:, None]).expand(-1, -1, PATCH)
    z = pair.depth
    points = torch.stack(((u - cx) / fx * z, (v - cy) / fy * z, z, torch.ones_like(z)), dim=-1)
    seen = points @ (torch.linalg.inv(pair.c2w_b) @ pair.c2w_a).T
    x, y = seen[..., 0] / seen[..., 2] * fx + cx, seen[..., 1] / seen[..., 2] * fy + cy
    inside = ((x > 1) & (x < width - 2) & (y > 1) & (y < height - 2) & (seen[..., 2] > 0.1)).flatten(1).all(1)
    u, v, x, y = u[inside], v[inside], x[inside].float(), y[inside].float()
    if len(x) == 0:
        return torch.zeros(0, 2), torch.zeros(0)
    shift = torch.arange(-RADIUS, RADIUS + STEP / 2, STEP)
    n = len(shift)
    gx = x[:, None, None] + shift[None, None, :, None, None]
    gy = y[:, None, None] + shift[None, :, None, None, None]
    gx, gy = torch.broadcast_tensors(gx, gy)
    grid = torch.stack((gx / (width - 1) * 2 - 1, gy / (height - 1) * 2 - 1), dim=-1).reshape(1, -1, PATCH * PATCH, 2)
    grey_a, grey_b = pair.image_a.mean(0), pair.image_b.mean(0)
    there = functional.grid_sample(grey_b[None, None], grid, align_corners=True, padding_mode="border")
    there = there.reshape(len(x), n * n, PATCH * PATCH)
    here = grey_a[v, u].reshape(len(x), 1, -1)

    def unit(t: Tensor) -> Tensor:
        t = t - t.mean(-1, keepdim=True)
        return t / t.norm(dim=-1, keepdim=True).clamp_min(1e-3)

    score = (unit(there) * unit(here)).sum(-1).reshape(len(x), n, n)
    best, index = score.flatten(1).max(1)
    row, column = index // n, index % n
    found = torch.stack((_refine(score, row, column, 2), _refine(score, row, column, 1)), dim=1)
    return found, best


def _refine(score: Tensor, row: Tensor, column: Tensor, dim: int) -> Tensor:
    """Sub-pixel shift along one axis: the top of the parabola through the best score and its two neighbours."""
    k, n = torch.arange(len(score)), score.shape[1]
    at = column if dim == 2 else row
    inner = at.clamp(1, n - 2)
    low, mid, high = (score[k, row, inner + d] if dim == 2 else score[k, inner + d, column] for d in (-1, 0, 1))
    curve = (low - 2 * mid + high).clamp_max(-1e-6)
    top = (0.5 * (low - high) / curve).clamp(-1, 1)
    return (torch.where(at == inner, inner + top, at.float()) * STEP) - RADIUS


def _mirrored_yaw(pair: Pair) -> Pair:
    relative = pair.c2w_a[:3, :3].T @ pair.c2w_b[:3, :3]
    c2w = pair.c2w_b.clone()
    c2w[:3, :3] = pair.c2w_a[:3, :3] @ relative.T
    return replace(pair, c2w_b=c2w)


def _mirrored_move(pair: Pair) -> Pair:
    c2w = pair.c2w_b.clone()
    c2w[:3, 3] = 2 * pair.c2w_a[:3, 3] - pair.c2w_b[:3, 3]
    return replace(pair, c2w_b=c2w)


def _longer_step(pair: Pair) -> Pair:
    c2w = pair.c2w_b.clone()
    c2w[:3, 3] += 0.25 * (pair.c2w_b[:3, 3] - pair.c2w_a[:3, 3])
    return replace(pair, c2w_b=c2w)


def _scaled_focal(pair: Pair, x: float, y: float) -> Pair:
    return replace(pair, intrinsics=pair.intrinsics * torch.tensor((x, y, 1, 1), dtype=torch.float64))


CAMERAS: dict[str, Callable[[Pair], Pair]] = {
    "as delivered": lambda pair: pair,
    "yaw mirrored": _mirrored_yaw,
    "translation mirrored": _mirrored_move,
    "one tic late": lambda pair: replace(pair, c2w_b=pair.c2w_before),
    "focal length +10 %": lambda pair: _scaled_focal(pair, 1.1, 1.1),
    "pixels 1.2 times too tall": lambda pair: _scaled_focal(pair, 1.0, 1.2),
    "steps 25 % too long": _longer_step,
}
"""The camera under test and cameras that are wrong on purpose."""


def take_pairs(levels: Sequence[str], pairs: int, seed: int, size: tuple[int, int] = (192, 320)) -> list[Pair]:
    """Return up to ``pairs`` pairs from each of ``levels``, frames of ``size`` (height, width)."""
    rng = np.random.default_rng(seed)
    found = []
    for name in levels:
        level = Level(read_map(wad_path(name), name))
        engine = Engine(name, choose_lens(size[1], size[0]), seed=seed, depth=True)
        taken = [take_pair(engine, level, rng) for _ in range(4 * pairs)]
        found += [pair for pair in taken if pair is not None and len(pair.centres) >= 4][:pairs]
        engine.close()
    return found


def measure(pairs: Sequence[Pair], camera: Callable[[Pair], Pair]) -> tuple[Tensor, Tensor]:
    """Return distances ``(K,)`` in pixels over all patches and the offsets ``(M, 2)`` of those found.

    A patch that is found nowhere within the search radius counts with that radius.
    """
    distance, shifts = [], []
    for pair in pairs:
        shift, score = offsets(camera(pair))
        found = score > 0.7
        distance.append(torch.where(found, shift.norm(dim=1), RADIUS))
        shifts.append(shift[found])
    return torch.cat(distance), torch.cat(shifts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8, help="pairs from each level")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--levels", nargs="+", default=["MAP01", "MAP07", "MAP16", "E1M1", "E1M5", "E3M2"])
    arguments = parser.parse_args()
    pairs = take_pairs(arguments.levels, arguments.pairs, arguments.seed)
    if not pairs:
        sys.exit("error: no place that was tried shows enough; ask for more --pairs, or for other --levels")
    print(
        f"{len(pairs)} pairs from {', '.join(arguments.levels)}, frames 320x192; pixels between prediction and picture"
    )
    print(f"{'camera':28}{'patches':>8}{'median':>8}{'mean':>8}{'p90':>8}{'<1 px':>8}   median shift x, y")
    for name, camera in CAMERAS.items():
        distance, shift = measure(pairs, camera)
        x, y = shift.median(dim=0).values.tolist()
        print(
            f"{name:28}{len(distance):8d}{distance.median():8.2f}{distance.mean():8.2f}{distance.quantile(0.9):8.2f}"
            f"{100 * (distance < 1).float().mean():7.0f}%   {x:+.2f}, {y:+.2f}"
        )


if __name__ == "__main__":
    main()
