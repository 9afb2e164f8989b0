"""The directory of a run: which recipe it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sana_wm.errors import InputError


def keep_recipe(values: dict[str, Any], same: Sequence[str], directory: Path) -> None:
    """Write the recipe beside the run. Another one may train differently, but no other model or size of picture.

    Args:
        values: the recipe, and what its parts `init` and `teacher_weights` began with, where it has them: the source
            and SHA-256 of their weights.
        same: settings such as `data.height` that may not change.

    Raises:
        InputError: the directory holds a run of another recipe.
    """
    path = directory / "recipe.json"
    wanted = json.loads(json.dumps(values))
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if any(_setting(found, name) != _setting(wanted, name) for name in same):
            raise InputError(f"{directory} holds a run of another model; choose another directory, or delete it")
        if _weights(found, "init") != _weights(wanted, "init"):
            before = (found.get("init") or {}).get("model", "nothing")
            raise InputError(f"{directory} holds a run that started from {before}; give the same --init, or delete it")
        if _weights(found, "teacher_weights") != _weights(wanted, "teacher_weights"):
            before = (found.get("teacher_weights") or {}).get("model", "none")
            raise InputError(f"{directory} holds a run of the teacher {before}; give the same one, or delete it")
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _setting(recipe: dict[str, Any], name: str) -> object:
    """None where the recipe has no such setting, as one of another kind."""
    found: object = recipe
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _weights(recipe: dict[str, Any], part: str) -> object:
    return (recipe.get(part) or {}).get("sha256")
