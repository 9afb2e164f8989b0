"""A golden file in memory, and the comparisons a kind asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor


@dataclass(frozen=True)
class Fixture:
    """One golden file: its metadata and all its tensors."""

    path: Path
    config: dict[str, Any]
    notes: str
    tensors: dict[str, Tensor]

    @property
    def directory(self) -> Path:
        return self.path.parent

    def outputs(self) -> list[str]:
        return sorted(name for name in self.tensors if name.startswith("out."))

    def has(self, *names: str) -> bool:
        return all(name in self.tensors for name in names)

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Tensors under `prefix`, with the prefix taken off."""
        return {name[len(prefix) :]: t for name, t in self.tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Check:
    """`actual` must equal `expected` within `tolerance` (absolute, or times max|expected| when `relative`)."""

    name: str
    actual: Tensor
    expected: Tensor
    tolerance: float
    relative: bool = False

    def error(self) -> float:
        """Largest absolute error; infinite when shapes differ or anything is not finite on one side only."""
        if self.actual.shape != self.expected.shape:
            return float("inf")
        if self.expected.numel() == 0:
            return 0.0
        actual, expected = self.actual.double(), self.expected.double()
        if not torch.equal(torch.isnan(actual), torch.isnan(expected)):
            return float("inf")
        difference = (actual - expected).abs()
        difference[actual == expected] = 0.0  # equal infinities
        return float(difference.nan_to_num(nan=0.0, posinf=float("inf")).max())

    def limit(self) -> float:
        if not self.relative:
            return self.tolerance
        finite = self.expected.double()[torch.isfinite(self.expected.double())]
        return self.tolerance * float(finite.abs().max()) if finite.numel() else self.tolerance

    def ok(self) -> bool:
        return self.error() <= self.limit()


@dataclass(frozen=True)
class Kind:
    """A family of golden files, recognised by what is in them; every output must come out of the `checks` of one."""

    name: str
    matches: Callable[[Fixture], bool]
    checks: Callable[[Fixture], Iterator[Check]]


def load_fixture(path: Path) -> Fixture:
    """Reads one file; raises OSError, SafetensorError or ValueError where it is not safetensors with JSON metadata."""
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    config = json.loads(metadata.get("config", "{}")) or {}
    if not isinstance(config, dict):
        raise ValueError("its metadata entry `config` is not a JSON object")
    notes = metadata.get("notes", "")
    return Fixture(path, config, json.loads(notes) if notes.startswith('"') else notes, tensors)
