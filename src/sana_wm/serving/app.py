"""The HTTP and WebSocket application."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, WebSocket
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import APIKeyQuery, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sana_wm import __version__
from sana_wm.engine.example import load_example
from sana_wm.engine.image_input import read_image
from sana_wm.serving.channel import Channel
from sana_wm.serving.clip import encode_pictures, join_clip
from sana_wm.serving.history import Node
from sana_wm.serving.house import House
from sana_wm.serving.messages import ProtocolError
from sana_wm.serving.session import Session
from sana_wm.serving.walk import describe_walk

PAGE = Path(__file__).with_name("page")
FILES = {
    "index.html": "text/html", "style.css": "text/css", "app.js": "text/javascript", "link.js": "text/javascript",
    "controls.js": "text/javascript", "screen.js": "text/javascript", "map.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}  # fmt: skip
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:;"
    " connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


Place = Annotated[int | None, Query(ge=0)]
From = Annotated[int, Query(ge=0)]


class Health(BaseModel):
    """Whether the server works, and how busy it is."""

    status: str
    version: str
    model: str
    device: str
    sessions: int
    waiting: int
    places: int


class About(BaseModel):
    """What the model makes and what guests may ask for."""

    model: str
    width: int
    height: int
    fps: int
    frames_a_chunk: int
    denoising_steps: int
    max_chunks: int
    upload_bytes: int
    picture_side: int
    prompt_chars: int
    example_prompt: str


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def create_app(house: House, *, local: bool = True) -> FastAPI:
    """The application around a model; it closes the house when it ends.

    local: guests are on this machine, so whoever calls it by another name (a page that had its own name point here) is
        refused.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        house.close()

    app = FastAPI(
        title="sana-wm", version=__version__, lifespan=lifespan,
        description="Worlds one walks in. The walk itself is a WebSocket, /v1/world.",
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.house = house
    if local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_NAMES))

    def guest(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
        token: Annotated[str | None, Depends(APIKeyQuery(name="token", auto_error=False))],
    ) -> None:
        if not house.allows(token if bearer is None else bearer.credentials):
            raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    def session(name: str) -> Session:
        if name not in house.sessions:
            raise HTTPException(404, "there is no such session; it ends with its connection")
        return house.sessions[name]

    only_guests = [Depends(guest)]
    refused: dict[int | str, dict[str, Any]] = {401: {"model": Problem, "description": "No token, or a wrong one"}}
    missing = refused | {
        404: {"model": Problem, "description": "There is no such session or node, or its video is no longer kept"},
        409: {"model": Problem, "description": "No chunk has been made there yet"},
    }

    @app.middleware("http")
    async def protect(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(ProtocolError)
    async def refuse(request: Request, error: ProtocolError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409 if error.code == "empty" else 404)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html")

    @app.get("/page/{name}", include_in_schema=False)
    def page_file(name: str) -> FileResponse:
        if name not in FILES:
            raise HTTPException(404)
        return FileResponse(PAGE / name, media_type=FILES[name])

    @app.get("/health", responses={503: {"model": Health, "description": "The model has stopped"}})
    def health(response: Response) -> Health:
        """200 while the model's thread lives, else 503."""
        alive = house.worker.alive
        response.status_code = 200 if alive else 503
        return Health(
            status="ok" if alive else "the model has stopped", version=__version__, model=house.pipe.name,
            device=str(house.pipe.device), sessions=house.line.inside, waiting=house.line.waiting,
            places=house.line.places,
        )  # fmt: skip

    @app.get(
        "/metrics", dependencies=only_guests, response_class=Response,
        responses=refused | {200: {"content": {"text/plain": {}}}},
    )  # fmt: skip
    def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(house.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/model", dependencies=only_guests, responses=refused)
    def model() -> About:
        """The model and the limits."""
        settings, limits = house.pipe.settings, house.limits
        return About(
            model=house.pipe.name, width=settings.width, height=settings.height, fps=settings.fps,
            frames_a_chunk=house.frames_a_step, denoising_steps=len(house.plan.timesteps) - 1,
            max_chunks=limits.chunks, upload_bytes=limits.upload_bytes, picture_side=limits.picture_side,
            prompt_chars=limits.prompt_chars, example_prompt=load_example().prompt,
        )  # fmt: skip

    @app.get("/v1/example", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def example() -> Response:
        """The picture of the example, as JPEG."""
        return Response(_example(), media_type="image/jpeg")

    @app.get(
        "/v1/sessions/{name}/video", dependencies=only_guests, response_class=Response,
        responses=missing | {200: {"content": {"video/mp4": {}}}},
    )  # fmt: skip
    async def video(name: str, node: Place = None, from_chunk: From = 0, to_chunk: Place = None) -> Response:
        """The walk to a node (none: where it is now) as MP4, or its chunks from and to (not included)."""
        found = session(name)
        fragments = await found.fragments(_clip(found, node, from_chunk, to_chunk)[1])
        data = await house.aside(house.parcels, partial(join_clip, fragments))
        return Response(data, media_type="video/mp4", headers=_attachment("walk.mp4"))

    @app.get(
        "/v1/sessions/{name}/walk", dependencies=only_guests, response_class=Response,
        responses=missing | {200: {"content": {"application/json": {}}}},
    )  # fmt: skip
    async def walk(name: str, node: Place = None, from_chunk: From = 0, to_chunk: Place = None) -> Response:
        """The same as JSON from which `sana-wm play --replay` makes the same frames again."""
        found = session(name)
        path, clip = _clip(found, node, from_chunk, to_chunk)
        assert found.beginning is not None
        first = clip[0].chunk - 1
        steps = [one.step for one in path if one.step is not None]
        what = house.pipe, found.beginning, house.plan, steps, (first, first + len(clip))
        text = await house.aside(house.parcels, lambda: json.dumps(describe_walk(*what), indent=1))
        return Response(text, media_type="application/json", headers=_attachment("walk.json"))

    @app.websocket("/v1/world")
    async def world(socket: WebSocket, token: str | None = None) -> None:
        if not same_origin(socket.headers.get("origin"), socket.headers.get("host")):
            await socket.close(1008, "wrong origin")
            return
        if not house.allows(_bearer(socket.headers.get("authorization", "")) or token):
            await socket.close(1008, "the token is missing or wrong")
            return
        if house.connections >= house.limits.connections:
            await socket.close(1013, "too many connections")
            return
        house.connections += 1
        try:
            await socket.accept()
            reason = "error"
            try:
                reason = await Session(house, Channel(socket, house.limits)).run()
            finally:
                house.metrics.ended.labels(reason).inc()
        finally:
            house.connections -= 1

    return app


@cache
def _example() -> bytes:
    picture = np.asarray(read_image(load_example().image))
    return encode_pictures(picture[None], "jpeg")[0]


def _clip(session: Session, node: int | None, first: int, last: int | None) -> tuple[list[Node], list[Node]]:
    """The nodes from the beginning to `node` or to chunk `last`, and those of them from chunk `first` on."""
    tree = session.tree
    if tree is None:
        raise ProtocolError("empty", "the world has not begun.")
    path = tree.path(tree.current.number if node is None else node)
    path = path if last is None else path[: max(0, last)]
    clip = path[max(0, first) :]
    if not clip:
        raise ProtocolError("empty", "there are no chunks between these two; walk first.")
    return path, clip


def same_origin(origin: str | None, host: str | None) -> bool:
    """Whether a request comes from this server's own page, or from no page: another page must not walk in here."""
    if origin is None:
        return True
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == str(host).lower()
    except ValueError:
        return False


def _bearer(header: str) -> str | None:
    kind, _, value = header.partition(" ")
    return value.strip() if kind.lower() == "bearer" and value.strip() else None


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}

