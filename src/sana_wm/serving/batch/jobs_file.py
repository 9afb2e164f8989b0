"""A file of jobs: one JSON object a line, checked whole before anything is made."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from sana_wm.engine.order import VideoOrder, check_numbers
from sana_wm.engine.outputs import output_names
from sana_wm.engine.prompt_input import read_prompt
from sana_wm.engine.scene import check_scene_unseen, read_scene
from sana_wm.engine.staging import check_name
from sana_wm.errors import InputError
from sana_wm.settings import config_from_dict

MAX_BYTES = 64 * 2**20
EXAMPLE = 'a JSON object such as {"action": "w-80"}'
KEYS = tuple(field.name for field in fields(VideoOrder))
FILES = ("image", "camera", "intrinsics")
OF_THE_RUN = ("model", "device", "dtype", "fp8", "output_dir", "jobs", "replicas")
OF_STREAMS = ("stream", "resume", "save_every")
INSTEAD = {
    "action": ("camera",),
    "camera": ("action", "translation_speed", "rotation_speed_deg"),
    "intrinsics": ("fov",),
    "fov": ("intrinsics",),
}
"""What a line gives, and the defaults of the command line that it therefore does without."""


@dataclass(frozen=True)
class VideoJob:
    """A line of a file of jobs.

    Attributes:
        line: its number, from 1.
        order: the video, with the names of files as they are to be opened.
        name: stem of the files. files: their names.
        asked: the order in its own words.
    """

    line: int
    order: VideoOrder
    name: str
    files: tuple[str, ...]
    asked: Mapping[str, Any]


def read_jobs(path: Path, defaults: VideoOrder) -> list[VideoJob]:
    """The jobs of a file, all of them checked as far as their pictures can be without decoding them.

    Names of files in a line are relative to the folder of `path`. What a line leaves out is as in `defaults`; null is
    what a flag that is left out means. Blank lines are skipped.

    Raises:
        InputError: the file cannot be read, or a line is wrong; the sentence names the first such line.
    """
    jobs: list[VideoJob] = []
    makers: dict[str, VideoJob] = {}
    for number, text in enumerate(_read(path).split("\n"), 1):
        if not text.strip():
            continue
        where = f"jobs file '{path}', line {number}"
        with _in(where):
            values = _values(text)
        given = config_from_dict(VideoOrder, {key: v for key, v in values.items() if v is not None}, where)
        with _in(where):
            job = _job(number, values, given, path.parent, defaults)
        for file in job.files:
            other = makers.setdefault(file, job)
            if other is not job:
                raise InputError(
                    f"{where}: name is {job.name!r}, which would write '{file}' as line {other.line} does; give each "
                    "line a name of its own."
                )
        jobs.append(job)
    if not jobs:
        raise InputError(f"jobs file '{path}' has no lines; each must be {EXAMPLE}.")
    return jobs


@contextmanager
def _in(where: str) -> Iterator[None]:
    """What is wrong within the block is said to be wrong there."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"jobs file '{path}' has {size} bytes; at most {MAX_BYTES} are read; split it.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"jobs file '{path}' cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"jobs file '{path}' is not UTF-8 text (byte {error.start}).") from error


def _values(text: str) -> dict[str, Any]:
    """The keys and values of a line, each key known and there once."""
    try:
        content = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is no JSON ({error}); write {EXAMPLE}.") from error
    if not isinstance(content, dict):
        raise InputError(f"this is {text.strip()[:40]!r}; write {EXAMPLE}.")
    for key, value in content.items():
        if key in OF_THE_RUN:
            raise InputError(f"{key} is {value!r}, but it is of the whole run; give it as --{key}.")
        if key in OF_STREAMS:
            raise InputError(f"{key} is {value!r}, but jobs are not streamed; leave it out.")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"keys are {', '.join(KEYS)}."
            raise InputError(f"there is no key {key!r}; {hint}")
    return content


def _job(number: int, values: dict[str, Any], typed: VideoOrder, folder: Path, defaults: VideoOrder) -> VideoJob:
    """The job of a line with `values`, of which those that are not null are in `typed` as well."""
    known = {key: getattr(typed, key) for key, value in values.items() if value is not None}
    given = known | {key: str(folder / Path(known[key]).expanduser()) for key in FILES if key in known}
    if "prompt" in known:
        given["prompt"] = read_prompt(known["prompt"], folder)
    nothing = asdict(VideoOrder())
    without = {key for key, value in values.items() if value is None}
    without.update(other for key in known for other in INSTEAD.get(key, ()))
    order = replace(defaults, **{key: nothing[key] for key in without} | given)
    scene = read_scene(order)
    check_numbers(order)
    check_scene_unseen(scene, order)
    name = check_name(scene.image.stem if order.name is None else order.name)
    files = tuple(output_names(name, overlay=order.overlay).values())
    return VideoJob(number, order, name, files, {**asdict(order), "action": scene.action, **known})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"{key} is given twice, as {found[key]!r} and {value!r}; give it once.")
        found[key] = value
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
