"""Errors that say in which stage of which chunk they happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av
import torch

from sana_wm.engine.failure import DeviceFullError, GenerationError
from sana_wm.errors import first_line
from sana_wm.sampling import SamplingError


@contextmanager
def named_stage(stage: str, chunk: int | None = None) -> Iterator[None]:
    """What fails inside and is no bug becomes a :class:`GenerationError` that begins with the stage and the chunk.

    That is: numbers that are not finite, a full device, and what the disk or the video encoder refuses.
    """
    where = f"stage {stage}" if chunk is None else f"stage {stage}, chunk {chunk}"
    try:
        yield
    except SamplingError as error:
        raise GenerationError(f"{where}: {error}.") from error
    except torch.OutOfMemoryError as error:
        said = f"{where}: the memory of the device is full; free some, or use a smaller model."
        raise DeviceFullError(said) from error
    except (OSError, av.FFmpegError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise GenerationError(f"{where}: {reason}.") from error
