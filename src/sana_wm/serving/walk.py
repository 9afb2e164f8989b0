"""A walk as JSON: everything that a world was made from, so that it can be made again, frame for frame."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.preprocess import check_request
from sana_wm.engine.sidecar import frames_sha256, versions
from sana_wm.engine.stream_plan import checked
from sana_wm.engine.world import World
from sana_wm.errors import InputError, first_line
from sana_wm.geometry.actions import DEFAULT_ROTATION_SPEED_DEG, DEFAULT_TRANSLATION_SPEED
from sana_wm.models.config import StreamSettings
from sana_wm.serving.limits import Limits
from sana_wm.serving.pictures import open_picture
from sana_wm.settings import config_from_dict

FORMAT, VERSION = "sana-wm walk", 1
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Beginning:
    """What a world of a live session begins with; its picture is already that of the video.

    Attributes:
        picture: PNG bytes of the model's picture size. intrinsics: fx, fy, cx, cy in its pixels.
    """

    picture: bytes
    prompt: str
    intrinsics: tuple[float, ...]
    seed: int
    translation_speed: float = DEFAULT_TRANSLATION_SPEED
    rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG

    @classmethod
    def of(
        cls,
        pipe: SanaWMPipeline,
        image: Image.Image | Path,
        prompt: str,
        *,
        seed: int,
        fov: float | None = None,
        intrinsics: Sequence[float] | None = None,
        translation_speed: float = DEFAULT_TRANSLATION_SPEED,
        rotation_speed_deg: float = DEFAULT_ROTATION_SPEED_DEG,
    ) -> Beginning:
        """Fit a picture to the model; arguments as of :meth:`World.begin`.

        Raises:
            InputError: something in them is wrong.
        """
        lens = None if intrinsics is None else np.asarray(intrinsics)
        request = check_request(image, prompt, c2w=np.eye(4)[None], intrinsics=lens, fov=fov)
        conditions = pipe.prepare(request, 1)
        levels = ((conditions.image.double() + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        png = io.BytesIO()
        Image.fromarray(levels).save(png, "PNG")
        numbers = tuple(conditions.intrinsics[0].double().tolist())
        return cls(png.getvalue(), conditions.prompt, numbers, seed, translation_speed, rotation_speed_deg)

    def begin(self, pipe: SanaWMPipeline, plan: StreamSettings) -> World:
        """The world.

        Raises:
            InputError, GenerationError: see :meth:`World.begin`.
        """
        return World.begin(
            pipe,
            Image.open(io.BytesIO(self.picture), formats=("PNG",)),
            self.prompt,
            intrinsics=np.array(self.intrinsics),
            seed=self.seed,
            translation_speed=self.translation_speed,
            rotation_speed_deg=self.rotation_speed_deg,
            plan=plan,
        )


@dataclass(frozen=True)
class _Numbers:
    """The part of a :class:`Beginning` that JSON holds as it is."""

    prompt: str
    seed: int
    translation_speed: float
    rotation_speed_deg: float


@dataclass(frozen=True)
class Step:
    """One chunk of a walk: the keys as an action string, and the hash of the frames that they gave."""

    keys: str
    sha256: str


def describe_walk(
    pipe: SanaWMPipeline, beginning: Beginning, plan: StreamSettings, steps: Sequence[Step], clip: tuple[int, int]
) -> dict[str, Any]:
    """The walk, ready for JSON. clip: the chunks, from and to (not included), that the video beside it shows."""
    picture = base64.b64encode(beginning.picture).decode()
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": pipe.name,
        "video": {"height": pipe.settings.height, "width": pipe.settings.width, "fps": pipe.settings.fps},
        "world": asdict(beginning) | {"picture": picture, "intrinsics": list(beginning.intrinsics)},
        "stream": asdict(plan),
        "steps": [asdict(step) for step in steps],
        "frames_sha256": walk_hash([step.sha256 for step in steps]),
        "clip": {"from_chunk": clip[0], "to_chunk": clip[1]},
        "versions": versions(),
    }


def walk_hash(chunks: Sequence[str]) -> str:
    """One hash of the hashes of all chunks."""
    return hashlib.sha256("\n".join(chunks).encode()).hexdigest()


@dataclass(frozen=True)
class Walk:
    """A walk that was read from JSON."""

    model: str
    beginning: Beginning
    plan: StreamSettings
    steps: tuple[Step, ...]
    frames_sha256: str

    @classmethod
    def of(cls, content: Any, where: str = "walk") -> Walk:
        """Read what :func:`describe_walk` gave.

        Raises:
            InputError: it is no walk.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{where} is no recorded walk; give a JSON file from the page's download.")
        if content.get("version") != VERSION:
            raise InputError(f"{where} has version {content.get('version')!r}; this program reads version {VERSION}.")
        world = content.get("world")
        try:
            values = dict(world) if isinstance(world, dict) else {}
            picture = base64.b64decode(str(values.pop("picture", "")), validate=True)
            lens = tuple(float(number) for number in values.pop("intrinsics", ()))
            numbers = config_from_dict(_Numbers, values, f"{where}: world")
            steps = tuple(config_from_dict(Step, step, f"{where}: steps") for step in content.get("steps", ()))
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"{where} is damaged ({first_line(error)}).") from error
        open_picture(picture, Limits())  # refuses what is no picture
        begins = Beginning(picture, intrinsics=lens, **asdict(numbers))
        plan = checked(config_from_dict(StreamSettings, content.get("stream"), f"{where}: stream"))
        return cls(str(content.get("model", "")), begins, plan, steps, str(content.get("frames_sha256", "")))

    def replay(self, pipe: SanaWMPipeline) -> Iterator[npt.NDArray[np.uint8]]:
        """Make the walk again: the frames of one chunk after another, 25 of the first and 24 of the others.

        Raises:
            InputError, GenerationError: see :class:`World`.
        """
        with self.beginning.begin(pipe, self.plan) as world:
            for step in self.steps:
                yield world.step(step.keys)


def load_walk(path: Path) -> Walk:
    """The walk in a JSON file.

    Raises:
        InputError: there is none.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"walk '{path}' has {path.stat().st_size} bytes; at most {MAX_BYTES} are read.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"walk '{path}' cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"walk '{path}' is no JSON ({first_line(error)}).") from error
    return Walk.of(content, f"walk '{path}'")


def chunk_hash(frames: npt.NDArray[np.uint8]) -> str:
    """Hash of the frames of a chunk."""
    return frames_sha256(frames)
