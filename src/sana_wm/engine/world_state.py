"""All that a world is between two chunks: one value, which nothing changes, so that worlds can share it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.actions import CameraMotion, MotionRules
from sana_wm.models.history import History
from sana_wm.settings import config_from_dict


@dataclass(frozen=True)
class Finished:
    """A chunk that is ready to be seen, but not yet in what the transformer remembers.

    Attributes:
        latents: (1,C,n,h,w) float32.
        camera_conditions, chunk_plucker: (1,n,20) and (1,6*stride,n,h,w), as the transformer was given them.
    """

    latents: Tensor
    camera_conditions: Tensor
    chunk_plucker: Tensor


@dataclass(frozen=True)
class WorldState:
    """After `chunk` chunks.

    Attributes:
        seed: together with the index of a chunk it decides the noise.
        chunk: chunks made; the index of the next one.
        flat: the given picture is of one colour, so a video of one colour is no failure.
        motion: the camera; its pose is that of the last frame, relative to the first one.
        origin: the place, relative to the first frame, that `history` and the next chunk's cameras are told from.
        intrinsics: (4,) of the last frame, pixels of the video; on the CPU.
        features, mask: the caption (B,1,L,C) and (B,L); with guidance the negative prompt is first.
        first: (1,C,1,h,w) the given picture; None once the first chunk has been made from it.
        history: what the transformer remembers, None at the beginning.
        finished: the last chunk, if it is not in `history` yet.
        tails: what the decoder remembers, nothing at the beginning.
    """

    seed: int
    chunk: int
    flat: bool
    motion: CameraMotion
    intrinsics: Tensor
    features: Tensor
    mask: Tensor
    first: Tensor | None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    history: History | None = None
    finished: Finished | None = None
    tails: tuple[Tensor, ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """By name, as a file holds them."""
        found = {"intrinsics": self.intrinsics, "features": self.features, "mask": self.mask}
        if self.first is not None:
            found["first"] = self.first
        if self.history is not None:
            found |= {f"history.{name}": x for name, x in self.history.tensors().items()}
        if self.finished is not None:
            found |= {f"finished.{name}": x for name, x in vars(self.finished).items()}
        return found | {f"tails.{number}": x for number, x in enumerate(self.tails)}

    def numbers(self) -> dict[str, Any]:
        """The rest, ready for JSON."""
        frames, chunks = (0, 0) if self.history is None else (self.history.frames, self.history.chunks)
        rules = asdict(self.motion.rules)
        return {
            "seed": self.seed, "chunk": self.chunk, "flat": self.flat, "latent_frames": frames,
            "remembered": chunks, "motion": self.motion.state(), "rules": rules, "origin": [*self.origin],
        }  # fmt: skip

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.tensors().values())

    @classmethod
    def of(cls, numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> WorldState:
        """The reverse of :meth:`numbers` and :meth:`tensors`.

        Raises:
            InputError: something is missing or is not what it should be.
        """
        history = _under("history.", tensors)
        finished = _under("finished.", tensors)
        tails = _under("tails.", tensors)
        try:
            chunk, frames = int(numbers["chunk"]), int(numbers["latent_frames"])
            written = chunk - bool(finished)
            begun = {written == numbers["remembered"], bool(tails) == (chunk > 0), ("first" in tensors) == (chunk == 0)}
            if begun != {True} or bool(history) != (written > 0):
                raise InputError(f"it is a world after {chunk} chunks, but what it remembers is not.")
            rules = config_from_dict(MotionRules, numbers["rules"], "rules of the camera")
            return cls(
                seed=int(numbers["seed"]),
                chunk=chunk,
                flat=bool(numbers["flat"]),
                motion=CameraMotion.of(numbers["motion"], rules),
                intrinsics=tensors["intrinsics"].reshape(4),
                features=tensors["features"],
                mask=tensors["mask"],
                first=tensors.get("first"),
                origin=_place(numbers["origin"]),
                history=History.of(history, frames, written) if history else None,
                finished=Finished(**finished) if finished else None,
                tails=tuple(tails[str(number)] for number in range(len(tails))),
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"it is no whole state of a world ({type(error).__name__}: {error})") from error


def _place(numbers: Any) -> tuple[float, float, float]:
    x, y, z = (float(number) for number in numbers)
    if not all(map(math.isfinite, (x, y, z))):
        raise InputError(f"its origin is {numbers}; it must be three finite numbers.")
    return x, y, z


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
