"""Render batches of procedural scenes from given cameras.

Pixel convention: pixel **centres** lie at integer coordinates ``x = 0 .. W-1``, the convention of the model's ray maps
``((x - cx) / fx, (y - cy) / fy, 1)``; the samples of a pixel lie symmetrically around it. Depth is taken at the centre
itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.worlds.procedural.scene import Scene
from sana_wm.worlds.procedural.shade import View, make_view, nearest, rays, shade
from sana_wm.worlds.procedural.trace import trace

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
        compiled: compile the kernel with ``torch.compile`` (the first call of every frame size takes a minute or more).
        samples_per_chunk: memory bound: rays that are traced at once. By default 2**24 on an accelerator, 2**20 for
            compiled code on a CPU, and 2**18 otherwise, so that temporaries stay in the cache.
    """

    def __init__(self, samples: int = 4, compiled: bool = False, samples_per_chunk: int | None = None) -> None:
        if samples not in SAMPLE_OFFSETS:
            raise InputError(f"samples is {samples}; a pixel takes {', '.join(map(str, SAMPLE_OFFSETS))} samples.")
        self.samples = samples
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
        num = batch * num_frames
        step, rows = self._chunk(device, num, height, width)
        frames = torch.empty(num, 3, height, width, dtype=torch.uint8, device=device)
        depth = torch.empty(num, height, width, device=device) if with_depth else None
        for start in range(0, num, step):
            start = min(start, num - step)  # the last chunk overlaps the one before: one size, one compiled kernel
            span = slice(start, start + step)
            parts = per_frame.surfaces[span], per_frame.environment[span], c2w[span], intrinsics[span]
            for top in range(0, height, rows):
                top = min(top, height - rows)
                bottom = top + rows
                view = make_view(*parts, *_positions(top, bottom, width, self.samples, device))
                frames[span, :, top:bottom] = self._average(*self._shade(*trace(view), *view), width, self.samples)
                if depth is not None:
                    centres = make_view(*parts, *_positions(top, bottom, width, 1, device))
                    depth[span, top:bottom] = _surfaces(centres)[0].unflatten(1, (bottom - top, width))
        shape = (batch, num_frames)
        return frames.unflatten(0, shape), None if depth is None else depth.unflatten(0, shape)

    def _chunk(self, device: torch.device, num: int, height: int, width: int) -> tuple[int, int]:
        """Frames and rows of a chunk; all chunks of frames have nearly the same size, so few kernels are compiled."""
        limit = self.samples_per_chunk
        if limit is None:
            limit = 2**24 if device.type != "cpu" else 2**20 if self.compiled else 2**18
        per_row = width * self.samples
        frames = max(1, limit // (per_row * height))
        frames = -(-num // -(-num // frames))
        return frames, height if per_row * height <= limit else max(1, limit // per_row)


def _surfaces(view: View) -> tuple[Tensor, Tensor]:
    """Planar depth (``inf`` for sky) and row of the surface at every position of ``view``, ``(N, P)`` each."""
    depth, row = trace(view)[:2] if view.xs.is_cuda else nearest(view, rays(view))
    return torch.where(depth < 1e8, depth, torch.inf), row


def surface_rows(scene: Scene, c2w: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Row of the surface table seen by every pixel centre: ``(B, F, height, width)`` int32."""
    batch, num_frames = _check(scene, c2w, intrinsics)
    per_frame = scene.repeat_interleave(num_frames)
    positions = _positions(0, height, width, 1, scene.surfaces.device)
    view = make_view(per_frame.surfaces, per_frame.environment, c2w.flatten(0, 1), intrinsics.flatten(0, 1), *positions)
    return _surfaces(view)[1].view(batch, num_frames, height, width)


def _check(scene: Scene, c2w: Tensor, intrinsics: Tensor) -> tuple[int, int]:
    batch = scene.surfaces.shape[0]
    if c2w.ndim != 4 or c2w.shape[0] != batch or tuple(c2w.shape[2:]) != (4, 4):
        raise InputError(f"c2w has shape {tuple(c2w.shape)}; {batch} scenes need ({batch}, F, 4, 4).")
    if tuple(intrinsics.shape) != (batch, c2w.shape[1], 4):
        raise InputError(f"intrinsics has shape {tuple(intrinsics.shape)}; it must be {(batch, c2w.shape[1], 4)}.")
    return batch, c2w.shape[1]


def _positions(top: int, bottom: int, width: int, samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sample positions of rows ``top .. bottom - 1``: x and y, ``((bottom - top) * width * samples,)`` each."""
    offsets = torch.tensor(SAMPLE_OFFSETS[samples])
    shape = (bottom - top, width, samples)
    x = (torch.arange(width, dtype=torch.float32)[None, :, None] + offsets[:, 0]).expand(shape)
    y = (torch.arange(top, bottom, dtype=torch.float32)[:, None, None] + offsets[:, 1]).expand(shape)
    return x.reshape(-1).to(device), y.reshape(-1).to(device)


def _shade_colours(depth: Tensor, row: Tensor, shadow: Tensor, *view: Tensor) -> tuple[Tensor, ...]:
    return shade(View(*view), depth, row, shadow)


def _average(red: Tensor, green: Tensor, blue: Tensor, width: int, samples: int) -> Tensor:
    """Mean over the samples of a pixel: three ``(N, h*w*samples)`` to ``(N, 3, h, w)`` uint8."""
    means = [c.view(c.shape[0], -1, width, samples).float().mean(-1) for c in (red, green, blue)]
    return torch.stack(means, 1).round().to(torch.uint8)
