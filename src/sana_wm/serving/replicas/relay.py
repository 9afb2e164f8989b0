"""A guest's WebSocket, passed on to the replica that the guest's session stays with, and back."""

from __future__ import annotations

import asyncio
import json

from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from sana_wm.serving.channel import Channel, Left
from sana_wm.serving.limits import Limits
from sana_wm.serving.messages import ProtocolError
from sana_wm.serving.replicas.crowd import Crowd
from sana_wm.serving.replicas.replica import HERE, Address

PASSED_ON = ("authorization", "origin")
"""Headers by which a replica tells who may come in; it also sees the name that the guest called the server by."""
OPEN_SECONDS, CLOSE_SECONDS = 10.0, 1.0
AHEAD = 2
"""Messages of a replica that wait here for a guest, like those that wait in the replica itself."""


async def relay(socket: WebSocket, crowd: Crowd, limits: Limits) -> None:
    """Find the replica with the fewest guests, and pass messages on until one side ends."""
    for replica in crowd.by_guests():
        with crowd.guest(replica):
            try:
                far = await _connect(socket, replica)
            except InvalidStatus:  # who it is, where from, or too many: the same answer as from a single server
                await socket.close(1008, "refused")
                return
            except (OSError, InvalidHandshake, ConnectionClosed):  # gone; who is still there has to do
                crowd.lose(replica)
                continue
            except (InvalidURI, ValueError):
                await socket.close(1008, "wrong address")
                return
            await socket.accept()
            await _pass_on(socket, far, replica, crowd, limits)
            return
    await socket.accept()
    said = "no replica is ready, they are being started anew; come back in a minute."
    await Channel(socket, limits).close(Left("no_replica", 1013), ProtocolError("no_replica", said, fatal=True))


async def _connect(socket: WebSocket, replica: Address) -> ClientConnection:
    url = socket.url
    address = f"ws://{socket.headers.get('host', HERE)}{url.path}" + (f"?{url.query}" if url.query else "")
    headers = {name: socket.headers[name] for name in PASSED_ON if name in socket.headers}
    return await connect(
        address, host=HERE, port=replica.port, additional_headers=headers, user_agent_header=None, compression=None,
        proxy=None, max_size=None, max_queue=AHEAD, ping_interval=None, open_timeout=OPEN_SECONDS,
        close_timeout=CLOSE_SECONDS,
    )  # fmt: skip


async def _pass_on(socket: WebSocket, far: ClientConnection, replica: Address, crowd: Crowd, limits: Limits) -> None:
    channel = Channel(socket, limits)
    sides = [asyncio.create_task(_hear(socket, far)), asyncio.create_task(_show(channel, far, replica, crowd))]
    try:
        await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for side in sides:
            side.cancel()
        ended = await asyncio.gather(*sides, return_exceptions=True)
        await far.close()
    for error in ended:
        if isinstance(error, ConnectionClosed):
            if error.rcvd is None:
                crowd.lose(replica)
            await _end(socket, channel, error)
            return
        if isinstance(error, Exception) and not isinstance(error, Left):
            raise error


async def _hear(socket: WebSocket, far: ClientConnection) -> None:
    """What the guest says, to the replica, which reads it with suspicion. Ends when the guest leaves."""
    while True:
        message = await socket.receive()
        if message["type"] != "websocket.receive":
            raise Left("disconnected")
        text = message.get("text")
        await far.send(message["bytes"] if text is None else text)


async def _show(channel: Channel, far: ClientConnection, replica: Address, crowd: Crowd) -> None:
    """What the replica says, to the guest, no faster than the guest takes it."""
    session: str | None = None
    try:
        while True:
            message = await far.recv()
            if session is None and isinstance(message, str):
                found = json.loads(message)
                if found["type"] == "ready":
                    session = str(found["session"])
                    crowd.settle(session, replica)
            await channel.send_now(message)
    finally:
        if session is not None:
            crowd.settle(session, None)


async def _end(socket: WebSocket, channel: Channel, closed: ConnectionClosed) -> None:
    """The replica hung up: as it said, or without a word, because it is dead."""
    if closed.rcvd is None:
        said = "the replica that made this world has died, and the world with it; begin another."
        await channel.close(Left("replica_lost", 1012), ProtocolError("replica_lost", said, fatal=True))
        return
    try:
        await socket.close(closed.rcvd.code if closed.rcvd.code != 1005 else 1000, closed.rcvd.reason)
    except (RuntimeError, OSError, WebSocketDisconnect):  # the guest hung up as well
        return
