"""Random numbers for one scene, all from one seeded generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


class Draws:
    """Hands out uniform numbers of a ``torch.Generator`` one by one; a block at a time, since single draws are slow."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._block: list[float] = []

    def uniform(self) -> float:
        """A number in [0, 1)."""
        if not self._block:
            self._block = torch.rand(512, generator=self._generator).tolist()
        return self._block.pop()

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.uniform()

    def chance(self, share: float) -> bool:
        """True with probability ``share``."""
        return self.uniform() < share

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + int(self.uniform() * (high - low + 1))

    def choice(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of ``options``, with ``weights`` that sum to 1 or evenly."""
        if weights is None:
            return options[int(self.uniform() * len(options))]
        point = self.uniform()
        for option, weight in zip(options, weights, strict=True):
            point -= weight
            if point < 0:
                return option
        return options[-1]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """The options in random order."""
        keys = [self.uniform() for _ in options]
        return [options[i] for i in np.argsort(keys)]

    def block(self, *shape: int) -> np.ndarray:
        """Many numbers in [0, 1) at once, float64."""
        return torch.rand(*shape, generator=self._generator).double().numpy()
