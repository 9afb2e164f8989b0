"""Latents to 8-bit frames, piece by piece, with the checks that keep nonsense from looking like a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.checkpoints.components import Codec
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.pixels import to_frames

FRAMES_AT_ONCE = 16
"""Frames converted to 8 bits together."""


def decode_frames(codec: Codec, latents: Tensor, report: Callable[[int], None]) -> npt.NDArray[np.uint8]:
    """Frames (F,H,W,3) of the latents (1,C,T,h,w) of one video; `report` gets the frames done so far.

    Raises:
        GenerationError: latents or pixels are not finite.
    """
    if not bool(torch.isfinite(latents).all()):
        raise GenerationError("stage denoise: the latents are not finite; the model's weights may be damaged.")
    stride = codec.spatial_stride
    count = (latents.shape[2] - 1) * codec.temporal_stride + 1
    frames = np.empty((count, latents.shape[3] * stride, latents.shape[4] * stride, 3), dtype=np.uint8)
    done = 0
    for segment in _segments(codec, latents):
        if not bool(torch.isfinite(segment).all()):
            raise GenerationError(f"stage decode: pixels from frame {done} on are not finite; is the codec damaged?")
        pixels = to_frames(segment[0])
        frames[done : done + len(pixels)] = pixels
        done += len(pixels)
        report(done)
    return frames


def _segments(codec: Codec, latents: Tensor) -> Iterator[Tensor]:
    """Consecutive pieces (1,3,f,H,W) of the video, f small, so that converting one takes little memory."""
    for part in codec.decode_segments(latents):
        yield from part.split(FRAMES_AT_ONCE, dim=2)


def refuse_flat(frames: npt.NDArray[np.uint8], image: Tensor) -> None:
    """Refuse frames (F,H,W,3) that all are one flat colour, unless the first frame `image` (3,H,W) is flat too.

    Raises:
        GenerationError: the frames are one colour, such as the black of overflown numbers.
    """
    colour = frames[0, 0, 0]
    if not (frames == colour).all() or bool((image == image[:, :1, :1]).all()):
        return
    raise GenerationError(
        f"stage decode: the whole video is one colour {tuple(colour.tolist())}; the weights may be damaged, "
        "or the number format too narrow for this model."
    )
