"""Steps recorded once on a GPU and replayed, where launching their kernels takes longer than running them."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

LAUNCH_BOUND = 2**24
"""Numbers of tokens (batch * tokens * width) below which a GPU is done with a block before the next is launched: three
latent frames of the 2.6B model, or a minute of nano."""

T = TypeVar("T")
Key = tuple[tuple[torch.Size, torch.dtype], ...]


class _Recording(NamedTuple):
    """A graph, the tensors that it reads and what it writes, and when the last reader of that was done."""

    graph: torch.cuda.CUDAGraph
    given: list[Tensor]
    result: Any
    done: torch.cuda.Event


class Replayed:
    """A function of tensors, or of dataclasses, tuples and dictionaries of them, that gives one of these.

    With tensors of the same shapes as in `after` calls before it is recorded, and from then on replayed: nothing but
    the numbers in tensors may decide what it does. The calls before run as they are; in them kernels are compiled and
    libraries choose theirs, which cannot be recorded. A recording keeps the memory of one call until this object is
    gone. Several threads and streams may share it.
    """

    def __init__(self, function: Callable[..., Any], *, after: int = 1) -> None:
        self._function, self._after = function, after
        self._calls: Counter[Key] = Counter()
        self._recordings: dict[Key, _Recording] = {}
        self._lock = threading.Lock()

    def __call__(self, *given: Any) -> Any:
        tensors = list(tensors_of(given))
        key = tuple((x.shape, x.dtype) for x in tensors)
        self._calls[key] += 1
        if self._calls[key] <= self._after:
            return self._function(*given)
        with self._lock:
            if key not in self._recordings:
                self._recordings[key] = self._record(given, tensors)
            graph, kept, result, done = self._recordings[key]
            torch.cuda.current_stream().wait_event(done)
            for old, new in zip(kept, tensors, strict=True):
                old.copy_(new)
            graph.replay()
            own = handed_out(result, kept, tensors)
            done.record()
        return own

    def _record(self, given: tuple[Any, ...], tensors: list[Tensor]) -> _Recording:
        kept = [x.clone() for x in tensors]
        own = with_tensors(given, iter(kept))
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as that of the decoder, go on using the GPU meanwhile.
        with no_collection(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = self._function(*own)
        return _Recording(graph, kept, result, torch.cuda.Event())


def handed_out(result: Any, kept: Iterable[Tensor], given: Iterable[Tensor]) -> Any:
    """The result of a recording as its caller may keep it: copies, because the next replay writes over the tensors.

    What came out as it went in, one of those `kept` for the recording, is what this call was `given`, as without a
    recording; a past is passed on so, and copying it would take longer than many a step.
    """
    through = {id(old): new for old, new in zip(kept, given, strict=True)}
    tensors = (through[id(x)] if id(x) in through else x.clone() for x in tensors_of(result))
    return with_tensors(result, tensors)


_NO_COLLECTION = threading.Lock()


@contextmanager
def no_collection() -> Iterator[None]:
    """Python looks for no garbage in here, in one thread at a time.

    It could find an older recording, and freeing that in the thread that records ends what is being recorded.
    """
    with _NO_COLLECTION:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()


def replayed_if_short(function: Callable[..., T], device: torch.device, numbers: int) -> Callable[..., T]:
    """The function, recorded if it runs on a GPU that would wait for its launches; numbers: see `LAUNCH_BOUND`."""
    return Replayed(function) if device.type == "cuda" and numbers <= LAUNCH_BOUND else function


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors in dataclasses, tuples and dictionaries, in their order."""
    if isinstance(value, Tensor):
        yield value
    for part in _parts(value).values():
        yield from tensors_of(part)


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same dataclasses, tuples and dictionaries with other tensors, in the order of :func:`tensors_of`."""
    if isinstance(value, Tensor):
        return next(tensors)
    parts = {name: with_tensors(part, tensors) for name, part in _parts(value).items()}
    if is_dataclass(value):
        return replace(value, **parts)  # type: ignore[type-var]  # of an instance: a class has no parts
    if isinstance(value, tuple):
        return type(value)(*parts.values()) if hasattr(value, "_fields") else tuple(parts.values())
    return parts if isinstance(value, dict) else value


def _parts(value: Any) -> dict[Any, Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, tuple):
        return dict(enumerate(value))
    return value if isinstance(value, dict) else {}
