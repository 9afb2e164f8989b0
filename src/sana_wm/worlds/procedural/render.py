"""Render batches of procedural scenes from given cameras.

Pixel convention: pixel **centres** lie at integer coordinates ``x = 0 .. W-1``, the convention of the model's ray maps
``((x - cx) / fx, (y - cy) / fy, 1)``; the samples of a pixel lie symmetrically around it. Depth is taken at the centre
itself.

On a CUDA device with Triton one kernel draws whole frames (`render_triton`); everywhere else, and as that kernel's
readable twin, tracing, shading and averaging are plain tensor operations on chunks of rays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.worlds.procedural.scene import Scene
from sana_wm.worlds.procedural.shade import View, make_view, nearest, rays, shade
from sana_wm.worlds.procedural.trace import trace, uses_triton

SAMPLE_OFFSETS: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.0, 0.0),),
    2: ((-0.25, -0.25), (0.25, 0.25)),
    4: ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375)),
}
"""Where the samples of a pixel lie, ``(x, y)`` in pixels from its centre. Four: a rotated grid, which resolves four
levels on horizontal and vertical edges where a plain 2 x 2 grid resolves two."""


class Renderer:
    """Turns scenes and cameras into frames.

    Args:
        samples: rays a pixel (1, 2 or 4); their mean is the pixel.
        samples_per_chunk: memory bound: rays that are traced at once where they are plain tensors. By default 2**24 on
            an accelerator and 2**18 on a CPU, so that temporaries stay in the cache.
    """

    def __init__(self, samples: int = 4, samples_per_chunk: int | None = None) -> None:
        if samples not in SAMPLE_OFFSETS:
            raise InputError(f"samples is {samples}; a pixel takes {', '.join(map(str, SAMPLE_OFFSETS))} samples.")
        self.samples = samples
        self.samples_per_chunk = samples_per_chunk

    def __call__(
        self,
        scene: Scene,
        c2w: Tensor,
        intrinsics: Tensor,
        height: int,
        width: int,
        with_depth: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Render ``F`` frames of each of ``B`` scenes.

        Args:
            scene: the scenes, on the device that renders.
            c2w: ``(B, F, 4, 4)`` camera-to-world, OpenCV axes, metres.
            intrinsics: ``(B, F, 4)`` ``fx, fy, cx, cy`` in output pixels.
            height: rows of a frame.
            width: columns of a frame.
            with_depth: also trace planar depth at the pixel centres.

        Returns:
            ``(B, F, 3, height, width)`` uint8 frames, and ``(B, F, height, width)`` float32 metres (``inf`` for sky) or
            ``None``.

        Raises:
            InputError: when the shapes do not fit each other.
        """
        batch, num_frames = _check(scene, c2w, intrinsics)
        device = scene.surfaces.device
        per_frame = scene.repeat_interleave(num_frames)
        cameras = c2w.to(device).flatten(0, 1), intrinsics.to(device).flatten(0, 1)
        parts = per_frame.surfaces, per_frame.environment, *cameras
        draw = self._frames_triton if uses_triton(device) else self._frames
        frames = draw(parts, height, width).unflatten(0, (batch, num_frames))
        if not with_depth:
            return frames, None
        return frames, self._depth(parts, height, width).unflatten(0, (batch, num_frames))

    def _frames_triton(self, parts: Sequence[Tensor], height: int, width: int) -> Tensor:
        from sana_wm.worlds.procedural.render_triton import render_triton

        nowhere = parts[0].new_empty(0)
        return render_triton(_view(parts, (nowhere, nowhere)), height, width, SAMPLE_OFFSETS[self.samples])

    def _frames(self, parts: Sequence[Tensor], height: int, width: int) -> Tensor:
        frames = torch.empty(len(parts[0]), 3, height, width, dtype=torch.uint8, device=parts[0].device)
        for span, rows in self._chunks(parts[0], height, width):
            view = _view([p[span] for p in parts], _positions(rows, width, self.samples, frames.device))
            frames[span, :, rows] = _average(*shade(view, *trace(view)), width, self.samples)
        return frames

    def _depth(self, parts: Sequence[Tensor], height: int, width: int) -> Tensor:
        depth = torch.empty(len(parts[0]), height, width, device=parts[0].device)
        for span, rows in self._chunks(parts[0], height, width):
            view = _view([p[span] for p in parts], _positions(rows, width, 1, depth.device))
            depth[span, rows] = _surfaces(view)[0].unflatten(1, (-1, width))
        return depth

    def _chunks(self, surfaces: Tensor, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """Which frames and which of their rows are traced at once."""
        limit = self.samples_per_chunk or (2**18 if surfaces.device.type == "cpu" else 2**24)
        per_row = width * self.samples
        frames, rows = max(1, limit // (per_row * height)), max(1, min(height, limit // per_row))
        for start in range(0, len(surfaces), frames):
            for top in range(0, height, rows):
                yield slice(start, start + frames), slice(top, min(top + rows, height))


def _view(parts: Sequence[Tensor], positions: tuple[Tensor, Tensor]) -> View:
    surfaces, environment, c2w, intrinsics = parts
    return make_view(surfaces, environment, c2w, intrinsics, *positions)


def _surfaces(view: View) -> tuple[Tensor, Tensor]:
    """Planar depth (``inf`` for sky) and row of the surface at every position of ``view``, ``(N, P)`` each."""
    depth, row = trace(view)[:2] if view.xs.is_cuda else nearest(view, rays(view))
    return torch.where(depth < 1e8, depth, torch.inf), row


def surface_rows(scene: Scene, c2w: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Row of the surface table seen by every pixel centre: ``(B, F, height, width)`` int32."""
    batch, num_frames = _check(scene, c2w, intrinsics)
    per_frame = scene.repeat_interleave(num_frames)
    positions = _positions(slice(0, height), width, 1, scene.surfaces.device)
    view = make_view(per_frame.surfaces, per_frame.environment, c2w.flatten(0, 1), intrinsics.flatten(0, 1), *positions)
    return _surfaces(view)[1].view(batch, num_frames, height, width)


def _check(scene: Scene, c2w: Tensor, intrinsics: Tensor) -> tuple[int, int]:
    batch = scene.surfaces.shape[0]
    if c2w.ndim != 4 or c2w.shape[0] != batch or tuple(c2w.shape[2:]) != (4, 4):
        raise InputError(f"c2w has shape {tuple(c2w.shape)}; {batch} scenes need ({batch}, F, 4, 4).")
    if tuple(intrinsics.shape) != (batch, c2w.shape[1], 4):
        raise InputError(f"intrinsics has shape {tuple(intrinsics.shape)}; it must be {(batch, c2w.shape[1], 4)}.")
    return batch, c2w.shape[1]


def _positions(rows: slice, width: int, samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sample positions of some rows: x and y, ``(rows * width * samples,)`` each."""
    offsets = torch.tensor(SAMPLE_OFFSETS[samples])
    shape = (rows.stop - rows.start, width, samples)
    x = (torch.arange(width, dtype=torch.float32)[None, :, None] + offsets[:, 0]).expand(shape)
    y = (torch.arange(rows.start, rows.stop, dtype=torch.float32)[:, None, None] + offsets[:, 1]).expand(shape)
    return x.reshape(-1).to(device), y.reshape(-1).to(device)


def _average(red: Tensor, green: Tensor, blue: Tensor, width: int, samples: int) -> Tensor:
    """Mean over the samples of a pixel: three ``(N, h*w*samples)`` to ``(N, 3, h, w)`` uint8."""
    means = [c.view(c.shape[0], -1, width, samples).float().mean(-1) for c in (red, green, blue)]
    return torch.stack(means, 1).round().to(torch.uint8)
