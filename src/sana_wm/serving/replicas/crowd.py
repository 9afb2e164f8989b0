"""The replicas that can be reached at present, and who is where."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sana_wm.serving.replicas.replica import Address

logger = logging.getLogger(__name__)

LOOK_SECONDS, ANSWER_SECONDS = 0.5, 5.0


class Crowd:
    """What Ray Serve keeps running, as its handle tells."""

    def __init__(self, handle: Any, wanted: int) -> None:
        self._handle, self.wanted = handle, wanted
        self._live: dict[str, Address] = {}
        self._guests: Counter[str] = Counter()
        self._homes: dict[str, Address] = {}

    async def look(self) -> None:
        """See who is there, for ever."""
        while True:
            try:
                answer = self._handle.broadcast("address")
                found = await answer.results_async(timeout_s=ANSWER_SECONDS, return_exceptions=True)
            except (TimeoutError, RuntimeError) as error:  # one is starting or dying; what is known may still be there
                logger.debug("replicas do not answer: %s", error)
            else:
                self._take([one for one in found if isinstance(one, Address)])
            await asyncio.sleep(LOOK_SECONDS)

    def _take(self, found: list[Address]) -> None:
        for name in self._live.keys() - {one.name for one in found}:
            self.lose(self._live[name])
        self._live = {one.name: one for one in found}

    def lose(self, replica: Address) -> None:
        """One does not answer any more."""
        if self._live.pop(replica.name, None) is not None:
            logger.warning("replica %s (process %d) is gone", replica.name, replica.process)

    def by_guests(self) -> list[Address]:
        """All of them, those with the fewest guests first."""
        return sorted(self._live.values(), key=lambda one: (self._guests[one.name], one.name))

    @contextmanager
    def guest(self, replica: Address) -> Iterator[None]:
        """A guest is there for the block."""
        self._guests[replica.name] += 1
        try:
            yield
        finally:
            self._guests[replica.name] -= 1

    def settle(self, session: str, replica: Address | None) -> None:
        """A session lives there from now on, or (None) nowhere."""
        self._homes.pop(session, None)
        if replica is not None:
            self._homes[session] = replica

    def home(self, session: str) -> Address | None:
        """Where a session lives."""
        return self._homes.get(session)
