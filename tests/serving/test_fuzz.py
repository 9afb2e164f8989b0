"""Whatever is asked of a server, it says no 5xx, does not hang and does not crash.

`python benchmarks/serving_fuzz.py --minutes 3` does the same for longer, with other seeds.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.serving.hostile import beginning, draw
from tests.serving.live import ConnectionClosed, Guest, Place, Serve

LOOSE: dict[str, Any] = {"wrong_messages": 10**9, "messages_a_second": 1e9, "picture_side": 1000}
"""Limits that let everybody in for long."""


@contextmanager
def quiet_log() -> Iterator[list[logging.LogRecord]]:
    """What is logged as an error meanwhile: exceptions that nobody expected."""
    found: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Kept(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("uvicorn", "sana_wm", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield found
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def attack(place: Place, draws: random.Random, guests: int) -> int:
    """Hostile guests one after the other; how many messages they sent. Each is answered or sent away."""
    count = 0
    for _ in range(guests):
        with place.guest() as guest:
            try:
                for _ in range(draws.randrange(4)):
                    guest.socket.send(draw(draws))
                if draws.random() < 0.5:
                    guest.socket.send(beginning(draws))
                else:
                    guest.begin(pace=draws.choice(["live", "step"]))
                for _ in range(draws.randrange(60)):
                    guest.socket.send(draw(draws))
                    count += 1
                still_heard(guest)
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.code not in (1000, 1007, 1008, 1009):
                    raise
            if draws.random() < 0.3:
                with suppress(OSError):  # it may be closed already
                    guest.drop()
    return count


def still_heard(guest: Guest) -> None:
    """Who was not sent away gets an answer."""
    guest.say("rewind", node=2**50)
    while True:
        found: Any = guest.hear(20)
        if isinstance(found, dict) and (found.get("code") in ("no_such_node", "out_of_order") or found.get("fatal")):
            return


def test_hostile_messages_never_break_the_server(serve: Serve) -> None:
    place = serve(**LOOSE)
    with quiet_log() as wrong:
        assert attack(place, random.Random(0), guests=30) > 200
        place.wait(lambda: place.house.connections == 0, 3)
    assert [record.getMessage() for record in wrong] == []
    assert place.get("health")[0] == 200
    with place.guest() as guest:  # and the next one is served
        guest.begin()
        guest.chunk("w")


def ask_all(place: Place, number: int, examples: int, token: str = "") -> int:
    """So many requests of each kind that the server describes, drawn with a seed; how many there were.

    Raises:
        AssertionError: an answer is not as described, or a 5xx.
    """
    schemathesis = pytest.importorskip("schemathesis", reason="needs the packages of the extra 'fuzz'")
    hypothesis = pytest.importorskip("hypothesis", reason="needs the packages of the extra 'fuzz'")
    rules = hypothesis.settings(
        max_examples=examples, deadline=None, database=None, phases=(hypothesis.Phase.generate,),
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    described = schemathesis.openapi.from_url(place.url + "openapi.json")
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) == 6
    count = 0
    with place.guest(f"?token={token}") as guest:
        name = guest.begin()["session"]
        guest.chunk("w")
        headers = {"Authorization": f"Bearer {token}"}
        for operation in operations:

            @hypothesis.seed(number)
            @rules
            @hypothesis.given(case=operation.as_strategy(), ways=hypothesis.strategies.integers(0, 3))
            def ask(case: Any, ways: int) -> None:
                nonlocal count
                count += 1
                known, real = ways % 2, ways // 2
                if real and "name" in case.path_parameters:
                    case.path_parameters["name"] = name
                case.call_and_validate(headers=headers if known else {}, timeout=20)

            ask()
    return count


def test_the_described_requests_are_answered_as_described(serve: Serve) -> None:
    with quiet_log() as wrong:
        assert ask_all(serve(token="secret-token"), 0, examples=10, token="secret-token") > 30
    assert [record.getMessage() for record in wrong] == []
