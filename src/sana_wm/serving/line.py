"""Who is in, who waits, who is sent away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from sana_wm.serving.messages import ProtocolError

TELL_SECONDS = 1.0
"""How often those who wait are told their place, if it has changed."""


class Line:
    """So many places, and a line of guests in front of them, first come, first served."""

    def __init__(self, places: int, waiting: int) -> None:
        self.places, self.most_waiting = places, waiting
        self.inside = 0
        self._line: deque[asyncio.Event] = deque()

    @property
    def waiting(self) -> int:
        return len(self._line)

    async def enter(self, tell: Callable[[int], Awaitable[None]]) -> None:
        """Return with a place, which :meth:`leave` gives back; `tell` gets the place in the line, 1 is next.

        Raises:
            ProtocolError: the line is full.
        """
        if self.inside < self.places and not self._line:
            self.inside += 1
            return
        if len(self._line) >= self.most_waiting:
            raise ProtocolError("full", "all worlds are taken and the line is full; come back later.", fatal=True)
        turn, told = asyncio.Event(), 0
        self._line.append(turn)
        try:
            while not turn.is_set():
                place = self._line.index(turn) + 1
                if place != told:
                    await tell(place)
                    told = place
                    continue  # the turn may have come meanwhile
                with anyio.move_on_after(TELL_SECONDS):
                    await turn.wait()
        except BaseException:
            if turn in self._line:
                self._line.remove(turn)
            elif turn.is_set():
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back; the first in the line gets it."""
        self.inside -= 1
        if self._line:
            self.inside += 1
            self._line.popleft().set()
