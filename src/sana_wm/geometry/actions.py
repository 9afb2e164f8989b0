"""Keys to camera paths: the action grammar and the motion model (spec 30 section 1).

An action string such as `"w-40,dw-20,none-10"` lists segments `keys-frames`. Poses are camera-to-world, OpenCV axes
(x right, y down, z forward); one frame is 1/16 s whatever rate the video is written at. Translation is in scene units
(nominally metres).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.errors import InputError

DEFAULT_TRANSLATION_SPEED = 0.025
DEFAULT_ROTATION_SPEED_DEG = 0.6
DEFAULT_PITCH_LIMIT_DEG = 60.0
MAX_FRAMES = 100_000
"""Longest path an action string may describe (about 104 minutes)."""

_FRAME_SECONDS = 1.0 / 16.0
_PRESS_SECONDS, _COAST_SECONDS = 0.45, 1.0

# axis of the velocity (forward, strafe right, yaw right, pitch up) and direction that each key drives
KEYS = MappingProxyType(
    {"w": (0, 1), "s": (0, -1), "l": (1, 1), "j": (1, -1), "d": (2, 1), "a": (2, -1), "i": (3, 1), "k": (3, -1)}
)
LEGACY_KEYS = MappingProxyType(
    {"w": (0, 1), "s": (0, -1), "d": (1, 1), "a": (1, -1), "l": (2, 1), "j": (2, -1), "i": (3, 1), "k": (3, -1)}
)
"""First-release meaning: `a`/`d` strafe and `j`/`l` yaw."""


class ActionError(InputError):
    """An action string or key that cannot be read; `segment` is its 1-based place in the string, or None."""

    def __init__(self, message: str, segment: int | None = None) -> None:
        super().__init__(message)
        self.segment = segment


def parse_actions(text: str) -> list[frozenset[str]]:
    """Keys held in each frame. A path of n frames of keys has n + 1 poses.

    Blanks, case and the full-width comma do not matter. Raises :class:`ActionError` that names the segment.
    """
    stripped = "".join(text.replace("，", ",").split())
    if not stripped:
        raise ActionError("the action string is empty; write segments such as 'w-40,dw-20,none-10'.")
    frames: list[frozenset[str]] = []
    for index, segment in enumerate(stripped.split(","), start=1):
        keys, count = _parse_segment(segment, index)
        if len(frames) + count > MAX_FRAMES:
            where = _where(segment, index)
            raise ActionError(f"{where} makes the path longer than {MAX_FRAMES} frames.", segment=index)
        frames.extend([keys] * count)
    return frames


def _where(segment: str, index: int) -> str:
    return f"action segment {index} ('{segment if len(segment) <= 40 else segment[:37] + '...'}')"


def _parse_segment(segment: str, index: int) -> tuple[frozenset[str], int]:
    where = _where(segment, index)
    if not segment:
        raise ActionError(f"action segment {index} is empty; take out the comma too many.", segment=index)
    if "-" not in segment:
        raise ActionError(f"{where} has no '-'; write keys-frames, such as 'w-40' or 'none-10'.", segment=index)
    word, _, digits = segment.rpartition("-")
    if not word:
        raise ActionError(f"{where} names no keys; write 'none' to hold nothing.", segment=index)
    if not (digits.isascii() and digits.isdigit() and digits.strip("0")):
        raise ActionError(
            f"{where} lasts {digits[:20]!r}; the number of frames must be a whole number above 0.", segment=index
        )
    significant = digits.lstrip("0")
    # cut before int(): a million digits must not become a number
    count = int(significant) if len(significant) <= len(str(MAX_FRAMES)) else MAX_FRAMES + 1
    return _checked_keys(() if word.lower() == "none" else word, where, index), count


def _checked_keys(keys: Iterable[str], where: str, index: int | None = None) -> frozenset[str]:
    held = frozenset(key.lower() for key in keys)
    unknown = sorted(held - KEYS.keys())
    if unknown:
        raise ActionError(
            f"{where} holds unknown keys {', '.join(map(repr, unknown[:8]))}; "
            f"allowed are {', '.join(sorted(KEYS))}, or the word 'none'.",
            segment=index,
        )
    return held


@dataclass(frozen=True)
class MotionRules:
    """How held keys become velocity.

    translation_speed: units per frame; rotation_speed_deg: degrees per frame; pitch_limit_deg: the camera tilts no
    further up or down; smooth: inertia. legacy: the first release's rules, that is its key meaning, and a
    tilt step that would pass the limit is dropped where today it is cut short.
    """

    translation_speed: float = DEFAULT_TRANSLATION_SPEED
    rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG
    pitch_limit_deg: float = DEFAULT_PITCH_LIMIT_DEG
    smooth: bool = True
    legacy: bool = False

    def __post_init__(self) -> None:
        for name, most in (("translation_speed", 1000), ("rotation_speed_deg", 180), ("pitch_limit_deg", 90)):
            value = getattr(self, name)
            if not 0 <= value <= most:  # also refuses NaN
                raise InputError(f"{name} is {value}; it must be a number from 0 to {most}.")


class CameraMotion:
    """The camera of one path or live session: feed it the keys held in each frame, get a pose each time.

    Starts at the identity pose, at rest. All state is float64, so a path does not depend on how it is cut into steps.
    """

    def __init__(self, rules: MotionRules | None = None) -> None:
        self.rules = rules or MotionRules()
        self._velocity = np.zeros(4)
        self._held: frozenset[str] = frozenset()
        self._rotation = np.eye(3)
        self._translation = np.zeros(3)
        self._pitch = 0.0

    def copy(self) -> CameraMotion:
        """Another camera in the same place, moving alike, that goes its own way from here."""
        twin = CameraMotion(self.rules)
        twin.__dict__.update(self.__dict__)  # what is in it is replaced by a step, never changed
        return twin

    def state(self) -> dict[str, Any]:
        """Everything but the rules, ready for JSON; every digit survives."""
        return {
            "velocity": self._velocity.tolist(),
            "held": sorted(self._held),
            "rotation": self._rotation.tolist(),
            "translation": self._translation.tolist(),
            "pitch": self._pitch,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], rules: MotionRules | None = None) -> CameraMotion:
        """The reverse of :meth:`state`.

        Raises:
            InputError: it is no state of a camera.
        """
        motion = cls(rules)
        try:
            motion._velocity = np.array(state["velocity"], dtype=np.float64).reshape(4)
            motion._held = _checked_keys(state["held"], "the state")
            motion._rotation = np.array(state["rotation"], dtype=np.float64).reshape(3, 3)
            motion._translation = np.array(state["translation"], dtype=np.float64).reshape(3)
            motion._pitch = float(state["pitch"])
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the state of the camera's motion cannot be read ({error}).") from error
        return motion

    def placed(self, c2w: Tensor) -> CameraMotion:
        """Another camera with these rules, at rest at the pose (4,4): where poses given from outside have led."""
        moved = CameraMotion(self.rules)
        pose = c2w.detach().cpu().double().numpy()
        moved._rotation, moved._translation = pose[:3, :3].copy(), pose[:3, 3].copy()
        moved._pitch = math.asin(min(max(-moved._rotation[1, 2], -1.0), 1.0))
        return moved

    @property
    def c2w(self) -> Tensor:
        """Current pose, (4,4) float32."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self._rotation, self._translation
        return torch.from_numpy(pose.astype(np.float32))

    @property
    def velocity(self) -> Tensor:
        """Velocity of the last frame: forward, strafe right (units), yaw right, pitch up (radians); (4,) float32."""
        return torch.from_numpy(self._velocity.astype(np.float32))

    def step(self, keys: Iterable[str]) -> Tensor:
        """Hold `keys` for one frame; returns the pose after it, (4,4) float32."""
        self._update_velocity(_checked_keys(keys, "the frame"))
        self._move(*self._velocity.tolist())
        return self.c2w

    def _update_velocity(self, keys: frozenset[str]) -> None:
        rules = self.rules
        target = np.zeros(4)
        for key in keys:
            axis, direction = (LEGACY_KEYS if rules.legacy else KEYS)[key]
            target[axis] += direction
        omega = math.radians(rules.rotation_speed_deg)
        target *= (rules.translation_speed, rules.translation_speed, omega, omega)
        if not rules.smooth or keys - self._held:
            self._velocity = target  # a fresh press snaps all four axes at once
        else:
            seconds = np.where(np.abs(target) > 1e-12, _PRESS_SECONDS, _COAST_SECONDS)
            self._velocity = self._velocity + (1.0 - np.exp(-_FRAME_SECONDS / seconds)) * (target - self._velocity)
        self._held = keys

    def _move(self, forward: float, strafe: float, yaw: float, pitch: float) -> None:
        # Poses from outside may have led beyond the limit: from there the tilt can only become less.
        limit = max(math.radians(self.rules.pitch_limit_deg), abs(self._pitch))
        if self.rules.legacy:
            pitch_after = self._pitch if abs(self._pitch + pitch) > limit else self._pitch + pitch
        else:
            pitch_after = min(max(self._pitch + pitch, -limit), limit)
        # yaw about the world's y axis, pitch about the camera's x axis: no roll ever appears
        self._rotation = _rotation_y(yaw) @ self._rotation @ _rotation_x(pitch_after - self._pitch)
        self._pitch = pitch_after
        self._translation = (
            self._translation + forward * _on_ground(self._rotation[:, 2]) + strafe * _on_ground(self._rotation[:, 0])
        )


def rollout(
    text_or_keys: str | Sequence[Iterable[str]],
    *,
    translation_speed: float = DEFAULT_TRANSLATION_SPEED,
    rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG,
    pitch_limit_deg: float = DEFAULT_PITCH_LIMIT_DEG,
    smooth: bool = True,
) -> Tensor:
    """Poses of an action string, or of the keys held in each of N frames; (N+1,4,4) float32, the first the identity."""
    rules = MotionRules(translation_speed, rotation_speed_deg, pitch_limit_deg, smooth)
    return trace(text_or_keys, rules)[0]


def legacy_rollout(
    text_or_keys: str | Sequence[Iterable[str]],
    *,
    translation_speed: float = 0.05,
    rotation_speed_deg: float = 1.2,
    pitch_limit_deg: float = 85.0,
) -> Tensor:
    """Poses as the first release made them (old key meaning, no inertia); (N+1,4,4) float32."""
    rules = MotionRules(translation_speed, rotation_speed_deg, pitch_limit_deg, smooth=False, legacy=True)
    return trace(text_or_keys, rules)[0]


def trace(text_or_keys: str | Sequence[Iterable[str]], rules: MotionRules) -> tuple[Tensor, Tensor]:
    """Poses (N+1,4,4) and the velocity applied in each frame (N,4), see :attr:`CameraMotion.velocity`."""
    frames = parse_actions(text_or_keys) if isinstance(text_or_keys, str) else text_or_keys
    if len(frames) > MAX_FRAMES:
        raise ActionError(f"the path has {len(frames)} frames of keys; at most {MAX_FRAMES} are allowed.")
    motion = CameraMotion(rules)
    poses, velocities = [motion.c2w], [torch.zeros(0, 4)]
    for keys in frames:
        poses.append(motion.step(keys))
        velocities.append(motion.velocity[None])
    return torch.stack(poses), torch.cat(velocities)


def _rotation_y(angle: float) -> npt.NDArray[np.float64]:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _rotation_x(angle: float) -> npt.NDArray[np.float64]:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def _on_ground(direction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Direction laid on the world plane y = 0, so that tilting the camera does not lift it."""
    flat = direction * (1.0, 0.0, 1.0)
    norm = float(np.linalg.norm(flat))
    return flat / (norm + 1e-6) if norm > 0 else flat
