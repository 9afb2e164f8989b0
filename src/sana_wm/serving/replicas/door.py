"""The one address of several replicas: guests and requests go to them, answers come back."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from sana_wm.serving.app import HEADERS
from sana_wm.serving.limits import Limits
from sana_wm.serving.replicas.crowd import Crowd
from sana_wm.serving.replicas.relay import relay
from sana_wm.serving.replicas.replica import HERE, Address

ANSWER_SECONDS = 60.0
OF_THE_CONNECTION = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "content-length", "expect", "date", "server",
}  # fmt: skip
"""Headers that are about a connection and not about what is asked or answered."""
SUMS = ("sessions", "waiting", "places")


@dataclass(frozen=True)
class Answer:
    """Of a replica."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def response(self) -> Response:
        return Response(self.body, self.status, dict(self.headers))


def create_door(crowd: Crowd, limits: Limits) -> Starlette:
    """The application in front of the replicas. It decides nothing: who may come in is asked of the replicas."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(crowd.look())
        yield
        looking.cancel()

    async def world(socket: WebSocket) -> None:
        await relay(socket, crowd, limits)

    async def one(request: Request) -> Response:
        """Whatever any replica can answer."""
        for replica in crowd.by_guests():
            answer = await _ask(crowd, replica, request)
            if answer is not None:
                return answer.response()
        return _nobody()

    async def session(request: Request) -> Response:
        """What only the replica of a session can answer; where there is none, any says so."""
        home = crowd.home(request.path_params["name"])
        answer = None if home is None else await _ask(crowd, home, request)
        return await one(request) if answer is None else answer.response()

    async def health(request: Request) -> Response:
        """200 while one replica works; the numbers are those of all together."""
        answers = await _ask_all(crowd, request)
        well = [json.loads(answer.body) for _, answer in answers if answer.status == 200]
        if not well:
            return answers[0][1].response() if answers else _nobody()
        sums = {name: sum(one[name] for one in well) for name in SUMS}
        alive = {"replicas": len(well), "replicas_wanted": crowd.wanted}
        return JSONResponse({**well[0], **sums, **alive}, headers=HEADERS)

    async def metrics(request: Request) -> Response:
        """The counters of all replicas, each with its name."""
        answers = await _ask_all(crowd, request)
        wrong = [answer for _, answer in answers if answer.status != 200]
        if wrong or not answers:
            return wrong[0].response() if wrong else _nobody()
        registry = CollectorRegistry()
        registry.register(_All({replica.name: answer.body.decode() for replica, answer in answers}))
        return Response(generate_latest(registry), headers=dict(answers[0][1].headers))

    return Starlette(
        routes=[
            WebSocketRoute("/v1/world", world),
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/v1/sessions/{name}/{rest:path}", session),
            Route("/{rest:path}", one),
        ],
        lifespan=lifespan,
    )


class _All(Collector):
    """What several servers count."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for name, text in self._texts.items():
            for found in text_string_to_metric_families(text):
                family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                for sample in found.samples:
                    family.add_sample(sample.name, {**sample.labels, "replica": name}, sample.value)
        yield from families.values()


async def _ask_all(crowd: Crowd, request: Request) -> list[tuple[Address, Answer]]:
    replicas = crowd.by_guests()
    answers = await asyncio.gather(*(_ask(crowd, replica, request) for replica in replicas))
    return [(replica, answer) for replica, answer in zip(replicas, answers, strict=True) if answer is not None]


async def _ask(crowd: Crowd, replica: Address, request: Request) -> Answer | None:
    """The same question to a replica; None if it is not there any more. Bodies are not passed on: nothing takes one."""
    target = request.scope["raw_path"].decode("ascii")
    if request.url.query:
        target += f"?{request.url.query}"
    headers = {name: value for name, value in request.headers.items() if name not in OF_THE_CONNECTION}
    try:
        return await anyio.to_thread.run_sync(_fetch, replica.port, request.method, target, headers)
    except (OSError, http.client.HTTPException):
        crowd.lose(replica)
        return None


def _fetch(port: int, method: str, target: str, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection(HERE, port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        kept: dict[str, Any] = {
            name.lower(): value for name, value in answer.getheaders() if name.lower() not in OF_THE_CONNECTION
        }
        return Answer(answer.status, kept, answer.read())
    finally:
        connection.close()


def _nobody() -> Response:
    return JSONResponse({"detail": "no replica is ready; they are being started anew"}, 503, HEADERS)
