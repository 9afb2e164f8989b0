"""How much one server gives to its guests."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sana_wm.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; every one of them ends in a clear message to the guest, never in a full machine.

    Attributes:
        sessions: worlds at a time. waiting: guests who wait for one. connections: sockets at a time, all counted.
        init_seconds: from connecting to `init`. idle_seconds: without a message. session_seconds: of a whole session.
        send_seconds: for a guest to take one message; who is slower is let go.
        chunks: of one world, on all its branches. kept_chunks: the states that rewinding can go back to, besides the
            beginning; `kept_bytes`: their size together.
        message_bytes: of one message; upload_bytes: of a picture (its base64 is a third longer); picture_side: pixels.
        prompt_chars: of a prompt. wrong_messages: until a session is closed. messages_a_second: the rate that is
            listened to; bursts may be four times as long.
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
