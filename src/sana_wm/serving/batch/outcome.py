"""How a job ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """Of one job.

    Attributes:
        settings: fingerprint of everything its video is made from.
        seconds: it took.
        files: names and sizes in bytes. frames_sha256: of the pixels before compression.
        error: why there is no video, else None.
        warnings: what was said on the way.
    """

    line: int
    name: str
    settings: str
    seconds: float
    files: Mapping[str, int] = field(default_factory=dict)
    frames_sha256: str | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()
