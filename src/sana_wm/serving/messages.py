"""What a guest may say, read with suspicion: docs/serving.md is the page about it.

Names of messages and fields are those of SGLang's public world-model endpoint where they mean the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sana_wm.errors import InputError
from sana_wm.geometry.actions import DEFAULT_ROTATION_SPEED_DEG, DEFAULT_TRANSLATION_SPEED, KEYS, parse_actions
from sana_wm.serving.limits import Limits

Keys: TypeAlias = frozenset[str]
FrameKeys: TypeAlias = tuple[Keys, ...]
MAX_LOOK_DEG = 180.0


class ProtocolError(InputError):
    """A message that cannot be obeyed; `code` is one word for programs, `fatal` says that the session ends."""

    def __init__(self, code: str, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.code, self.fatal = code, fatal


@dataclass(frozen=True)
class Init:
    """Begin a world. `first_frame`: the bytes of a picture in base64, or None for the example."""

    prompt: str | None
    first_frame: str | None
    seed: int
    max_chunks: int
    fov: float | None
    intrinsics: tuple[float, ...] | None
    translation_speed: float
    rotation_speed_deg: float
    pace: Literal["live", "step"]
    encoding: Literal["jpeg", "raw"]


@dataclass(frozen=True)
class Event:
    """The keys held from now on; or the keys of every frame of the next chunk, with which a stepped world goes on.

    `look`: degrees to turn right and to tilt up, on top of the keys, as a mouse does. `seq` comes back with the chunk
    that obeys.
    """

    keys: Keys | FrameKeys
    look: tuple[float, float]
    seq: int


@dataclass(frozen=True)
class Rewind:
    """Go on from the state after the chunk called `node`."""

    node: int


@dataclass(frozen=True)
class Pause:
    """Make no more chunks of a live world, or go on."""

    paused: bool


@dataclass(frozen=True)
class Cancel:
    """Drop the chunk that is being made; the world is what it was before it. A live world then waits for keys."""


Message: TypeAlias = Init | Event | Rewind | Pause | Cancel


def read_message(text: str | bytes, limits: Limits, *, began: bool) -> Message:
    """The message that a guest sent; `began`: there was an `init` before.

    Raises:
        ProtocolError: it is none, or not now.
    """
    bound = limits.message_bytes if began else limits.first_message_bytes
    if isinstance(text, bytes):
        raise ProtocolError("not_text", "a binary message came; guests speak JSON text.")
    if len(text) > bound:
        raise ProtocolError("too_large", f"a message has {len(text)} characters; at most {bound} are read.", fatal=True)
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("not_json", "a message is no JSON; send an object such as {\"type\": \"init\"}.") from error
    if not isinstance(content, dict):
        raise ProtocolError("not_an_object", f"a message is {_named(content)}; it must be a JSON object.")
    kind = content.pop("type", None)
    if not isinstance(kind, str) or kind not in _READERS:
        known = ", ".join(_READERS)
        raise ProtocolError("unknown_type", f"type is {_shown(kind)}; it must be one of {known}.")
    if began == (kind == "init"):
        said = "init came a second time; open another connection." if began else f"{kind} came before init."
        raise ProtocolError("out_of_order", said)
    fields, reader = _READERS[kind]
    unknown = sorted(set(content) - set(fields))
    if unknown:
        raise ProtocolError("unknown_field", f"{kind} has a field {_shown(unknown[0])}; known are {', '.join(fields)}.")
    try:
        return reader(content, limits)
    except ProtocolError:
        raise
    except InputError as error:
        raise ProtocolError("wrong_value", f"{kind}: {error}") from error


def held_keys(value: Any) -> Keys | FrameKeys:
    """Keys of an event: "wd", ["w", "d"] or "none" while they are held; "w-10,dw-14" or [["w"], ["w", "d"]] frame by
    frame.

    Raises:
        InputError: it is none of these, or a key is unknown.
    """
    if value is None:
        return frozenset()
    if isinstance(value, str):
        if "-" in value:
            return tuple(parse_actions(value))
        word = value.strip().lower()
        return _keys([] if word == "none" else list(word))
    if isinstance(value, list) and len(value) <= 256:
        if value and all(isinstance(frame, list) for frame in value):
            return tuple(_keys(frame) for frame in value)
        return _keys(value)
    raise InputError(f"camera_actions is {_named(value)}; write keys such as \"wd\", or a list of at most 256.")


def _keys(found: list[Any]) -> Keys:
    for key in found:
        if not isinstance(key, str) or key.lower() not in KEYS:
            raise InputError(f"camera_actions holds {_shown(key)}; keys are {', '.join(sorted(KEYS))}.")
    return frozenset(key.lower() for key in found)


def _init(content: dict[str, Any], limits: Limits) -> Init:
    prompt = _optional(content, "prompt", str)
    if prompt is not None and len(prompt) > limits.prompt_chars:
        raise InputError(f"prompt has {len(prompt)} characters; at most {limits.prompt_chars} are read.")
    if prompt is not None and any(0xD800 <= ord(c) < 0xE000 for c in prompt):
        raise InputError("prompt holds half a character (a lone surrogate); send Unicode text.")
    picture = _optional(content, "first_frame", str)
    if picture is not None and prompt is None:
        raise InputError("prompt is missing; describe what first_frame shows.")
    lens = content.get("condition_inputs")
    lens = {} if lens is None else lens
    known = ("fov", "intrinsics", "translation_speed", "rotation_speed_deg")
    if not isinstance(lens, dict) or set(lens) - set(known):
        raise InputError(f"condition_inputs is {_shown(lens)}; it may hold {', '.join(known)}.")
    intrinsics = lens.get("intrinsics")
    if intrinsics is not None and (not isinstance(intrinsics, list) or len(intrinsics) != 4):
        raise InputError(f"intrinsics is {_shown(intrinsics)}; it must be [fx, fy, cx, cy] in pixels of the picture.")
    return Init(
        prompt=prompt,
        first_frame=picture,
        seed=_whole(content, "seed", 42, 0, 2**63 - 1),
        max_chunks=_whole(content, "max_chunks", limits.chunks, 1, limits.chunks),
        fov=None if lens.get("fov") is None else _number(lens["fov"], "fov", 1, 179),
        intrinsics=None if intrinsics is None else tuple(_number(x, "intrinsics", -1e5, 1e5) for x in intrinsics),
        translation_speed=_number(lens.get("translation_speed", DEFAULT_TRANSLATION_SPEED), "translation_speed", 0, 10),
        rotation_speed_deg=_number(
            lens.get("rotation_speed_deg", DEFAULT_ROTATION_SPEED_DEG), "rotation_speed_deg", 0, 15
        ),
        pace=_one_of(content, "pace", ("live", "step")),  # type: ignore[arg-type]
        encoding=_one_of(content, "encoding", ("jpeg", "raw")),  # type: ignore[arg-type]
    )


def _event(content: dict[str, Any], limits: Limits) -> Event:
    look = content.get("look")
    if look is None:
        look = [0, 0]
    if not isinstance(look, list) or len(look) != 2:
        raise InputError(f"look is {_shown(look)}; it must be [degrees right, degrees up].")
    right, up = (_number(x, "look", -MAX_LOOK_DEG, MAX_LOOK_DEG) for x in look)
    return Event(held_keys(content.get("camera_actions")), (right, up), _whole(content, "seq", 0, 0, 2**53))


def _rewind(content: dict[str, Any], limits: Limits) -> Rewind:
    if "node" not in content:
        raise InputError("node is missing; name the chunk to go back to, 0 is the beginning.")
    return Rewind(_whole(content, "node", 0, 0, 2**53))


def _pause(content: dict[str, Any], limits: Limits) -> Pause:
    paused = content.get("paused", True)
    if not isinstance(paused, bool):
        raise InputError(f"paused is {_shown(paused)}; it must be true or false.")
    return Pause(paused)


_Reader: TypeAlias = Callable[[dict[str, Any], Limits], Message]
_READERS: dict[str, tuple[tuple[str, ...], _Reader]] = {
    "init": (("prompt", "first_frame", "condition_inputs", "seed", "max_chunks", "pace", "encoding"), _init),
    "event": (("camera_actions", "look", "seq"), _event),
    "rewind": (("node",), _rewind),
    "pause": (("paused",), _pause),
    "cancel": ((), lambda content, limits: Cancel()),
}


def _optional(content: dict[str, Any], name: str, kind: type) -> Any:
    value = content.get(name)
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{name} is {_named(value)}; it must be text.")
    return value


def _whole(content: dict[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = content.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} is {_shown(value)}; it must be a whole number from {least} to {most}.")
    return value


def _number(value: Any, name: str, least: float, most: float) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    if not fits or not math.isfinite(value):
        raise InputError(f"{name} is {_shown(value)}; it must be a number from {least:g} to {most:g}.")
    return float(value)


def _one_of(content: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = content.get(name, choices[0])
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} is {_shown(value)}; it must be one of {', '.join(choices)}.")
    return value


def _named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        return _named(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
