"""The ends of a connection, which uvicorn leaves open to those who send slowly, read nothing, or ask without listening.

Every connection here is over after a while, and what is kept for it meanwhile has a bound.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from sana_wm.serving.limits import Allowance, Limits

LINGER_SECONDS = 2.0
"""How long a connection that is over may take to send its last words."""
HEAD_SECONDS = 15.0
"""For a request to be there as a whole, and for the next one on the same connection."""
ANSWER_SECONDS = 600.0
"""To take an answer, which may be a long video over a slow line."""
REQUEST_BYTES = 64 * 2**10
"""Of a whole request: none of ours has a body."""
FRAGMENTS = 256
"""Of one message; the smallest ones are a hundred times larger in memory than on the line."""
PINGS_A_SECOND = 10.0


class GuestRequests(HttpToolsProtocol):
    """Requests that are there soon, are short, and whose answers are taken."""

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*args, **options)
        self._most, self._bytes, self._since = limits.sockets, 0, 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.abort()
            return
        self._expect(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > REQUEST_BYTES:
            self.transport.abort()
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._bytes = 0
        self._expect(ANSWER_SECONDS)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect(HEAD_SECONDS)

    def handle_websocket_upgrade(self) -> None:
        self._forget()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _expect(self, seconds: float) -> None:
        self._forget()
        self._since = time.monotonic()
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        taking = self.transport.get_write_buffer_size() > 0
        if taking and time.monotonic() - self._since < ANSWER_SECONDS:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._too_late)
        else:
            self.transport.abort()


class GuestSocket(WebSocketsSansIOProtocol):
    """A WebSocket as `scope["state"]["connection"]`, which is gone soon after it is over."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.close_timeout = LINGER_SECONDS
        self._pings = Allowance(PINGS_A_SECOND)
        self._timer: asyncio.TimerHandle | None = None

    def bound(self, nbytes: int) -> None:
        """Refuse larger messages from now on, before they are read."""
        self.conn.max_message_size = nbytes

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["state"]["connection"] = self

    def handle_ping(self) -> None:
        if self._pings.take(1.0):
            super().handle_ping()
        else:  # the answers would pile up, if he does not read them
            self._fail(1008, "too many pings")

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS:
            self._fail(1009, f"a message may have {FRAGMENTS} fragments")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self.frames = []
            self._fail(1007, "a text message is not UTF-8")
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Say why, and hear the guest out: who hangs up on somebody who speaks takes the answer from him."""
        if self.close_sent or self.conn.close_sent is None:
            return
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # he does not answer, so he will not take what is left either

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _fail(self, code: int, reason: str) -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
