"""All that a world is between two chunks: one value, which nothing changes, so that worlds can share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.actions import CameraMotion, MotionRules
from sana_wm.models.history import History
from sana_wm.settings import config_from_dict


@dataclass(frozen=True)
class WorldState:
    """After `chunk` chunks.

    Attributes:
        seed: together with the index of a chunk it decides the noise.
        chunk: chunks made; the index of the next one.
        flat: the given picture is of one colour, so a video of one colour is no failure.
        motion: the camera; its pose is that of the last frame, relative to the first one.
        intrinsics: (4,) of the last frame, pixels of the video; on the CPU.
        features, mask: the caption (B,1,L,C) and (B,L); with guidance the negative prompt is first.
        first: (1,C,1,h,w) the given picture; None once the first chunk has been made from it.
        history: what the transformer remembers, None at the beginning.
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
    history: History | None = None
    tails: tuple[Tensor, ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """By name, as a file holds them."""
        found = {"intrinsics": self.intrinsics, "features": self.features, "mask": self.mask}
        if self.first is not None:
            found["first"] = self.first
        if self.history is not None:
            found |= {f"history.{name}": x for name, x in self.history.tensors().items()}
        return found | {f"tails.{number}": x for number, x in enumerate(self.tails)}

    def numbers(self) -> dict[str, Any]:
        """The rest, ready for JSON."""
        frames = 0 if self.history is None else self.history.frames
        rules = asdict(self.motion.rules)
        return {
            "seed": self.seed, "chunk": self.chunk, "flat": self.flat, "latent_frames": frames,
            "motion": self.motion.state(), "rules": rules,
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
        tails = _under("tails.", tensors)
        try:
            chunk, frames = int(numbers["chunk"]), int(numbers["latent_frames"])
            if bool(chunk) != bool(history) or bool(chunk) != bool(tails) or bool(chunk) == ("first" in tensors):
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
                history=History.of(history, frames, chunk) if history else None,
                tails=tuple(tails[str(number)] for number in range(len(tails))),
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"it is no whole state of a world ({type(error).__name__}: {error})") from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
