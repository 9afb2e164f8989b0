"""Does a camera that is told to turn still turn? Measured in a video itself, wherever it has come to."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import numpy.typing as npt

from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.evaluation.image import LUMA

SETTLED = 8
"""Frames after which a turn counts: the moves before it have ended by then."""


def turns(world: World) -> dict[str, float]:
    """By how much of what they should the keys "a" and "d" turn a world to the "left" and to the "right".

    1 is as told, 0 not at all, -1 the other way. The world stays as it is: forks of it turn, for a step each.

    Raises:
        GenerationError: the model made something that is no video.
    """
    state = world.state
    width = world.pipe.settings.width
    degrees, focal = state.motion.rules.rotation_speed_deg, float(state.intrinsics[0])
    wanted = pixels_a_turn(math.radians(degrees), focal, width)
    found = {}
    for name, key, sign in (("left", "a", 1), ("right", "d", -1)):
        with world.fork() as fork:
            frames = fork.step(key)[-world.frames_a_step :]
        found[name] = sign * median(map(across, frames[SETTLED:-1], frames[SETTLED + 1 :])) / wanted
    return found


def pixels_a_turn(angle: float, focal: float, width: int) -> float:
    """How far a picture `width` pixels wide goes across by a turn of `angle` radians, as :func:`across` sees it.

    A pixel at x from the centre goes by angle * (focal + x^2 / focal); the mean of x^2 under the window is in it.
    """
    spread = width**2 * (1 / 12 - 1 / (2 * math.pi**2))
    return angle * (focal + spread / focal)


def across(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> float:
    """Pixels by which a picture (H,W,3) has gone to the right in the next: where the correlation of rows is largest.

    At most an eighth of its width; a Hann window makes the middle count most.

    Raises:
        InputError: the pictures differ in size or are less than 16 pixels wide.
    """
    if before.shape != after.shape or before.ndim != 3 or before.shape[1] < 16:
        raise InputError(f"pictures are {before.shape} and {after.shape}; both must be (H, W, 3), 16 or more wide.")
    width = before.shape[1]
    one, other = (_rows(picture) for picture in (before, after))
    most = width // 8
    correlation = np.fft.irfft((one.conj() * other).sum(0), n=2 * width)
    near = np.roll(correlation, most)[: 2 * most + 1]
    peak = int(near.argmax())
    if peak in (0, 2 * most):
        return float(peak - most)
    left, middle, right = near[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    return float(peak - most + (0.5 * (left - right) / bend if bend else 0.0))  # the top of a parabola


def _rows(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.complex128]:
    """Spectra of the rows, padded so that nothing comes round."""
    luma = picture.astype(np.float64) @ np.array(LUMA)
    width = luma.shape[1]
    return np.fft.rfft((luma - luma.mean()) * np.hanning(width), n=2 * width)
