"""How much one server gives to its guests."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

from sana_wm.errors import InputError

BURST_SECONDS = 4.0


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; every one of them ends in a clear message to the guest, never in a full machine.

    Attributes:
        sessions: worlds at a time. waiting: guests who wait for one. connections: sockets at a time, all counted.
        init_seconds: from connecting to `init`. idle_seconds: without a message. session_seconds: of a whole session.
        send_seconds: for a guest to take one message; who is slower is let go.
        chunks: of one world, on all its branches. kept_chunks: the states that rewinding can go back to, besides the
            beginning; `kept_bytes`: their size together. video_bytes: of the chunks that can be downloaded.
        message_bytes: of one message; upload_bytes: of a picture (its base64 is a third longer); picture_side: pixels.
        prompt_chars: of a prompt. wrong_messages: until a session is closed. messages_a_second: the rate that is
            listened to (a long one counts as several); bursts may be four times as long.
    """

    sessions: int = 4
    waiting: int = 16
    connections: int = 128
    init_seconds: float = 30.0
    idle_seconds: float = 300.0
    session_seconds: float = 3600.0
    send_seconds: float = 20.0
    chunks: int = 400
    kept_chunks: int = 12
    kept_bytes: int = 4 * 2**30
    video_bytes: int = 2**30
    message_bytes: int = 64 * 2**10
    upload_bytes: int = 4 * 2**20
    picture_side: int = 4096
    prompt_chars: int = 4000
    wrong_messages: int = 20
    messages_a_second: float = 100.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("waiting", "kept_chunks") else 1e-3
            if not least <= value < 2**53:  # also refuses NaN
                raise InputError(f"{field.name} is {value}; it must be a number above {'-1' if not least else '0'}.")

    @property
    def first_message_bytes(self) -> int:
        """Of `init`, which may bring a picture."""
        return self.upload_bytes * 4 // 3 + self.message_bytes

    @property
    def sockets(self) -> int:
        """Of the whole server at a time: those of guests, and requests beside them."""
        return 2 * self.connections + 64


class Allowance:
    """So much a second, saved up for `BURST_SECONDS`."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._left, self._since = BURST_SECONDS * rate, time.monotonic()

    def take(self, amount: float) -> bool:
        """Whether it is there; it is taken even if not."""
        now = time.monotonic()
        self._left = min(BURST_SECONDS * self.rate, self._left + (now - self._since) * self.rate) - amount
        self._since = now
        return self._left >= 0
