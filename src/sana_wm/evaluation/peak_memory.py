"""The most memory that a piece of work needed, one piece after another."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import NamedTuple

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"
"""What the kernel wants to hear in `clear_refs` to begin the peak of the resident memory anew (proc(5))."""


class Memory(NamedTuple):
    """Bytes: the most since `begin`, and what is held now."""

    peak: int
    held: int


class PeakMemory:
    """Call :meth:`begin` before the work and :meth:`read` after it.

    Attributes:
        source: what is counted, in words: tensors on a GPU; on a CPU, all that is resident of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._reset = device.type != "cuda" and _can_reset()
        if device.type == "cuda":
            self.source = "tensors on the GPU, the most within each chunk (torch.cuda.max_memory_allocated)"
        elif self._reset:
            self.source = "resident memory of the process, the most within each chunk (VmHWM, reset by clear_refs)"
        else:  # no such file, as outside Linux: growth still shows, because it raises the peak
            self.source = "resident memory of the process, the most since it began (ru_maxrss)"

    def begin(self) -> None:
        """From here on."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        elif self._reset:
            CLEAR.write_text(RESET_PEAK)

    def read(self) -> Memory:
        """Until here."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return Memory(torch.cuda.max_memory_allocated(self._device), torch.cuda.memory_allocated(self._device))
        if self._reset:
            status = _status()
            return Memory(status["VmHWM"], status["VmRSS"])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Memory(peak, peak)


def _can_reset() -> bool:
    try:
        CLEAR.write_text(RESET_PEAK)
        return {"VmHWM", "VmRSS"} <= _status().keys()
    except OSError:
        return False


def _status() -> dict[str, int]:
    """Entries in kB as bytes."""
    rows = (line.split() for line in STATUS.read_text().splitlines())
    return {row[0].rstrip(":"): 1024 * int(row[1]) for row in rows if row[-1:] == ["kB"]}
