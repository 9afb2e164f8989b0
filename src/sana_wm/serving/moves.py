"""From what somebody holds, taps and looks at to the keys of every frame of a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import groupby

from sana_wm.serving.messages import Event, FrameKeys, Keys

TAP_FRAMES = 8
"""A key that was pressed and let go between two chunks is held for half a second, so that no press is lost."""


class Controls:
    """What is held now, and what happened since the last chunk began."""

    def __init__(self, rotation_speed_deg: float) -> None:
        self.seq = 0
        self._speed = rotation_speed_deg
        self._held: Keys = frozenset()
        self._tapped: Keys = frozenset()
        self._frames: FrameKeys | None = None
        self._look = [0.0, 0.0]

    def take(self, event: Event) -> None:
        """Note what an event says."""
        self.seq = max(self.seq, event.seq)
        if isinstance(event.keys, tuple):
            self._frames = event.keys
        else:
            self._held = event.keys
            self._tapped |= event.keys
        if self._speed:
            self._look = [max(-180.0, min(180.0, old + new)) for old, new in zip(self._look, event.look, strict=True)]

    @property
    def active(self) -> bool:
        """Somebody asks for the camera to move."""
        return bool(self._held or self._tapped or self._frames) or any(self._turns())

    def fork(self) -> Controls:
        """The same, to go on differently."""
        other = copy(self)
        other._look = list(self._look)
        return other

    def release(self) -> None:
        """Forget everything that is held."""
        self._held, self._tapped, self._frames, self._look = frozenset(), frozenset(), None, [0.0, 0.0]

    def next(self, count: int) -> FrameKeys:
        """The keys of the `count` frames of a chunk that begins now. Keys given frame by frame are as many as given."""
        if self._frames is not None:
            given, self._frames, self._tapped = self._frames, None, frozenset()
            return given
        turns = self._turns()
        frames: list[Keys] = []
        for number in range(count):
            keys = self._held | (self._tapped if number < TAP_FRAMES else frozenset())
            for axis, pair in enumerate(("ad", "ki")):
                if number < abs(turns[axis]):
                    keys = (keys - frozenset(pair)) | {pair[turns[axis] > 0]}
            frames.append(keys)
        for axis, turn in enumerate(turns):
            spent = max(-count, min(count, turn)) * self._speed
            self._look[axis] = 0.0 if abs(turn) <= count else self._look[axis] - spent
        self._tapped = frozenset()
        return tuple(frames)

    def _turns(self) -> list[int]:
        """Frames of turning right and tilting up that are left to do."""
        return [round(degrees / self._speed) if self._speed else 0 for degrees in self._look]


def action_string(frames: Sequence[Keys]) -> str:
    """Keys frame by frame as an action string: "w-10,dw-14"."""
    runs = [("".join(sorted(keys)) or "none", len(list(run))) for keys, run in groupby(frames)]
    return ",".join(f"{word}-{count}" for word, count in runs)
