"""The example that comes with the package: a picture, a prompt and a camera path."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sana_wm.errors import InputError

DIRECTORY = Path(__file__).parents[1] / "examples"
DESCRIPTION = "example.json"


@dataclass(frozen=True)
class Example:
    """Input of a generation; of `intrinsics` (fx, fy, cx, cy in image pixels) and `fov` (degrees) at most one."""

    image: Path
    prompt: str
    action: str
    intrinsics: tuple[float, ...] | None = None
    fov: float | None = None


def load_example(directory: Path = DIRECTORY) -> Example:
    """The example that `example.json` in `directory` describes.

    Raises:
        InputError: the description or the picture is missing or broken.
    """
    path = directory / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        image = directory / content.pop("image")
        if content.get("intrinsics") is not None:
            content["intrinsics"] = tuple(float(value) for value in content["intrinsics"])
        example = Example(image=image, **content)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"example '{path}' cannot be read ({reason}); name an image of your own.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"example '{path}' is broken ({error}); it must name image, prompt and action.") from error
    return example
