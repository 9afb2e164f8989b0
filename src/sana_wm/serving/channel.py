"""A guest's socket: what comes in one by one, what goes out through a short queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from sana_wm.serving.limits import Allowance, Limits
from sana_wm.serving.messages import Message, ProtocolError, read_message
from sana_wm.serving.sockets import GuestSocket

QUEUE = 4
"""Messages that wait to be sent: two chunks and what is said about them. A session goes no further before its guest
has taken them, so a slow reader slows down nobody but himself, and nothing piles up."""
UNIT = 4096
"""Characters of a message that count as one more message."""
TOO_LARGE = 1009
"""Code with which a socket is closed whose guest sends too large a message."""


class Left(Exception):
    """The guest has gone, or has to: `reason` is one word, `code` that of the closing frame."""

    def __init__(self, reason: str, code: int = 1000) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


class Channel:
    """Messages from and to one guest.

    What is said is often a state, which may change while one waits to say it. So wait for room first, then look at the
    state and :meth:`put` what it is: messages come to the guest in the order in which things happened.
    """

    def __init__(self, socket: WebSocket, limits: Limits) -> None:
        self._socket, self._limits = socket, limits
        self._out: asyncio.Queue[str | bytes] = asyncio.Queue(QUEUE)
        self._taken = asyncio.Event()
        self._allowance = Allowance(limits.messages_a_second)
        self._slow = False
        connection = socket.scope.get("state", {}).get("connection")
        self._connection = connection if isinstance(connection, GuestSocket) else None

    async def room(self, count: int = 1) -> None:
        """Return when so many messages can be put; they can until the caller next waits for anything."""
        while self._out.qsize() > QUEUE - count:
            self._taken.clear()
            await self._taken.wait()

    def put(self, kind: str, **fields: Any) -> None:
        """Queue a message, for which there is room."""
        self._out.put_nowait(json.dumps({"type": kind, **fields}, allow_nan=False))

    def show(self, head: dict[str, Any], parts: Sequence[bytes]) -> None:
        """Queue a binary message: four bytes of length (big endian), so much JSON, then the parts."""
        text = json.dumps({**head, "sizes": [len(part) for part in parts]}, allow_nan=False).encode()
        self._out.put_nowait(b"".join([len(text).to_bytes(4, "big"), text, *parts]))

    async def say(self, kind: str, **fields: Any) -> None:
        """Queue a message when there is room for it."""
        await self.room()
        self.put(kind, **fields)

    async def send(self) -> None:
        """Send what is queued, for ever.

        Raises:
            Left: the guest is gone or takes too long.
        """
        while True:
            message = await self._out.get()
            self._taken.set()
            await self.send_now(message)

    async def send_now(self, message: str | bytes) -> None:
        """Send a message past the queue.

        Raises:
            Left: the guest is gone or takes too long.
        """
        sending = self._socket.send_text(message) if isinstance(message, str) else self._socket.send_bytes(message)
        try:
            await asyncio.wait_for(sending, self._limits.send_seconds)
        except asyncio.TimeoutError as error:
            self._slow = True
            raise Left("slow_reader", 1008) from error
        except (WebSocketDisconnect, RuntimeError, OSError) as error:  # gone in the middle of it
            raise self._gone() from error

    def _gone(self) -> Left:
        sent = None if self._connection is None else self._connection.conn.close_sent
        return Left("too_large" if sent is not None and sent.code == TOO_LARGE else "disconnected")

    def begun(self) -> None:
        """After `init`, which may bring a picture, messages are short: larger ones are refused before they are read."""
        if self._connection is not None:
            self._connection.bound(self._limits.message_bytes)

    async def receive(self, *, began: bool) -> Message:
        """The next message.

        Raises:
            ProtocolError: it cannot be obeyed.
            Left: the guest is gone, or has said nothing for too long.
        """
        seconds = self._limits.idle_seconds if began else self._limits.init_seconds
        try:
            raw = await asyncio.wait_for(self._socket.receive(), seconds)
        except asyncio.TimeoutError as error:
            raise Left("idle" if began else "no_init", 1008) from error
        if raw["type"] != "websocket.receive":
            raise self._gone()
        found = raw.get("text")
        content = raw.get("bytes") or b"" if found is None else found
        if not self._allowance.take(1 + (len(content) // UNIT if began else 0)):
            rate = self._limits.messages_a_second
            said = f"messages come faster than {rate:g} a second; send keys only when they change."
            raise ProtocolError("too_fast", said, fatal=True)
        try:
            return read_message(content, self._limits, began=began)
        except ProtocolError as error:
            if len(content) > self._limits.message_bytes:  # it costs too much to hear such a one twice
                raise ProtocolError(error.code, str(error), fatal=True) from error
            raise

    async def close(self, left: Left, error: ProtocolError | None = None) -> None:
        """Say goodbye, if there is still somebody, and hang up; takes a second at most."""
        if self._socket.client_state is not WebSocketState.CONNECTED or left.reason == "disconnected" or self._slow:
            return
        try:
            with anyio.move_on_after(1.0):
                await self._goodbye(left, error)
        except (Left, RuntimeError, OSError, WebSocketDisconnect):
            return

    async def _goodbye(self, left: Left, error: ProtocolError | None) -> None:
        while not self._out.empty():
            await self.send_now(self._out.get_nowait())
        if error is not None:
            await self.send_now(json.dumps({"type": "error", **error_fields(error)}))
        await self.send_now(json.dumps({"type": "closed", "reason": left.reason}))
        await self._socket.close(left.code, left.reason)


def error_fields(error: ProtocolError) -> dict[str, Any]:
    """What a guest is told of an error."""
    return {"code": error.code, "message": str(error), "fatal": error.fatal}
