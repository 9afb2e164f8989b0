"""Render batches of procedural scenes from given cameras.

Pixel convention: pixel **centres** lie at integer coordinates ``x = 0 .. W-1``, the convention of the model's ray maps
``((x - cx) / fx, (y - cy) / fy, 1)``; supersamples lie symmetrically around them. Depth is taken at the centre itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.worlds.procedural.scene import Scene
from sana_wm.worlds.procedural.shade import View, make_view, nearest, rays, shade


class Renderer:
    """Turns scenes and cameras into frames.

    Args:
        supersample: samples along each axis of a pixel; their mean is the pixel.
        compiled: compile the kernel with ``torch.compile`` (the first call of every frame size takes a while).
        samples_per_chunk: memory bound: rays that are traced at once. By default 2**24 on an accelerator, 2**20 for compiled
            code on a CPU, and 2**18 otherwise, so that temporaries stay in the cache.
    """

    def __init__(self, supersample: int = 2, compiled: bool = False, samples_per_chunk: int | None = None) -> None:
        if supersample < 1:
            raise InputError(f"supersample is {supersample}; it must be at least 1.")
        self.supersample = supersample
        self.compiled = compiled
        self.samples_per_chunk = samples_per_chunk
        self._shade: Callable[..., tuple[Tensor, ...]] = _shade_colours
        self._average: Callable[..., Tensor] = _average
        if compiled:
            self._shade = torch.compile(_shade_colours, options={"max_fusion_size": 1024})
            self._average = torch.compile(_average)

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
        c2w, intrinsics = c2w.to(device).flatten(0, 1), intrinsics.to(device).flatten(0, 1)
        per_frame = scene.repeat_interleave(num_frames)
        step, rows = self._chunk(device, batch * num_frames, height, width)
        frames = torch.empty(batch * num_frames, 3, height, width, dtype=torch.uint8, device=device)
        depth = torch.empty(batch * num_frames, height, width, device=device) if with_depth else None
        xs, ys = (_positions(n, self.supersample, device) for n in (width, height))
        for start in range(0, batch * num_frames, step):
            span = slice(start, start + step)
            parts = per_frame.surfaces[span], per_frame.environment[span], c2w[span], intrinsics[span]
            for top in range(0, height, rows):
                lines = ys[top * self.supersample : (top + rows) * self.supersample]
                view = make_view(*parts, xs, lines)
                frames[span, :, top : top + rows] = self._average(*self._shade(*view), self.supersample)
                if depth is not None:
                    centres = torch.arange(top, min(top + rows, height), device=device, dtype=torch.float32)
                    columns = torch.arange(width, device=device, dtype=torch.float32)
                    depth[span, top : top + rows] = trace(make_view(*parts, columns, centres))[0]
        shape = (batch, num_frames)
        return frames.unflatten(0, shape), None if depth is None else depth.unflatten(0, shape)

    def _chunk(self, device: torch.device, num: int, height: int, width: int) -> tuple[int, int]:
        """Frames and rows of a chunk; all chunks of frames have nearly the same size, so few kernels are compiled."""
        limit = self.samples_per_chunk
        if limit is None:
            limit = 2**24 if device.type != "cpu" else 2**20 if self.compiled else 2**18
        per_row = width * self.supersample**2
        frames = max(1, limit // (per_row * height))
        frames = -(-num // -(-num // frames))
        return frames, height if frames > 1 else max(1, min(height, limit // per_row))


def trace(view: View) -> tuple[Tensor, Tensor]:
    """Planar depth (``inf`` for sky) and row of the surface at every position of ``view``, ``(N, h, w)`` each."""
    depth, row = nearest(view, rays(view))
    return torch.where(depth < 1e8, depth, torch.inf), row


def surface_rows(scene: Scene, c2w: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Row of the surface table seen by every pixel centre: ``(B, F, height, width)`` int32."""
    batch, num_frames = _check(scene, c2w, intrinsics)
    device = scene.surfaces.device
    per_frame = scene.repeat_interleave(num_frames)
    columns, lines = (torch.arange(n, device=device, dtype=torch.float32) for n in (width, height))
    flat = c2w.flatten(0, 1), intrinsics.flatten(0, 1)
    view = make_view(per_frame.surfaces, per_frame.environment, *flat, columns, lines)
    return trace(view)[1].unflatten(0, (batch, num_frames))


def _check(scene: Scene, c2w: Tensor, intrinsics: Tensor) -> tuple[int, int]:
    batch = scene.surfaces.shape[0]
    if c2w.ndim != 4 or c2w.shape[0] != batch or tuple(c2w.shape[2:]) != (4, 4):
        raise InputError(f"c2w has shape {tuple(c2w.shape)}; {batch} scenes need ({batch}, F, 4, 4).")
    if tuple(intrinsics.shape) != (batch, c2w.shape[1], 4):
        raise InputError(f"intrinsics has shape {tuple(intrinsics.shape)}; it must be {(batch, c2w.shape[1], 4)}.")
    return batch, c2w.shape[1]


def _positions(size: int, supersample: int, device: torch.device) -> Tensor:
    """Sample positions in output pixels: ``supersample`` of them, evenly, within half a pixel of every integer."""
    index = torch.arange(size * supersample, device=device, dtype=torch.float32)
    return (index + 0.5) / supersample - 0.5


def _shade_colours(*view: Tensor) -> tuple[Tensor, ...]:
    return shade(View(*view))[:3]


def _average(red: Tensor, green: Tensor, blue: Tensor, supersample: int) -> Tensor:
    """Mean over the supersamples of a pixel: three ``(N, h*s, w*s)`` to ``(N, 3, h, w)`` uint8."""
    s = supersample
    n, h, w = red.shape[0], red.shape[1] // s, red.shape[2] // s
    means = [c.view(n, h, s, w, s).float().mean((2, 4)) for c in (red, green, blue)]
    return torch.stack(means, 1).round().to(torch.uint8)
