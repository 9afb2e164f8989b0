"""Stages that work at the same time, each on its own item: the second on what the first made while that makes more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from threading import Condition, Event, Thread
from typing import Any


class Stopped(Exception):
    """Nobody wants the item any more. A long stage may raise it by itself when its `stop` is set."""


class _Channel:
    """From one thread to the next, at most `depth` items ahead; ends with an error or without one."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[Any] = deque()
        self._changed = Condition()
        self._closed = self._ended = False
        self._error: BaseException | None = None

    def put(self, item: Any) -> None:
        """Waits while the reader is behind."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if self._closed:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; what is under way is still read, and then the error raised."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody reads any more: what is under way is dropped and the writer stops at its next item."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


def overlapped(
    source: Iterable[Any], *stages: Callable[[Any], Any], depth: int = 1, stop: Event | None = None
) -> Generator[Any, None, None]:
    """What the stages, one after another, make of every item of the source, in its order.

    The source and every stage run in a thread of their own; at most `depth` finished items wait between two of them, so
    a slow stage holds up those before it and memory stays bounded. When a stage fails, what went before the failing
    item still comes out, then the error is raised here; no stage begins anything new. Closing this iterator, as an
    exception in whoever reads it does, stops all of them after what they are at; `stop` is set then, for stages that
    take so long that they look at it on the way.
    """
    threads: list[Thread] = []
    before: Any = source
    for stage in (None, *stages):
        after = _Channel(depth)
        threads.append(Thread(target=_work, args=(before, stage, after), daemon=True))
        before = after
    try:
        for thread in threads:
            thread.start()
        yield from before
    finally:
        if stop is not None:
            stop.set()
        before.close()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _work(before: Any, stage: Callable[[Any], Any] | None, after: _Channel) -> None:
    try:
        for item in before:
            after.put(item if stage is None else stage(item))
        after.end()
    except Stopped:
        after.end()  # whoever still waits for an item must not wait for ever
    except BaseException as error:  # it is raised again where the results are read
        after.end(error)
    finally:
        if isinstance(before, _Channel):
            before.close()
