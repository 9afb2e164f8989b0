"""The bundled example is read whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sana_wm.engine.example import DIRECTORY, load_example
from sana_wm.engine.preprocess import check_request
from sana_wm.errors import InputError
from tests.engine.tiny import picture


def test_an_example_names_picture_prompt_and_path(tmp_path: Path) -> None:
    picture().save(tmp_path / "street.png")
    content = {"image": "street.png", "prompt": "a street", "action": "w-8", "intrinsics": [50, 50, 30, 16]}
    (tmp_path / "example.json").write_text(json.dumps(content))
    example = load_example(tmp_path)
    assert example.image == tmp_path / "street.png"
    assert example.intrinsics == (50.0, 50.0, 30.0, 16.0)
    assert example.fov is None


@pytest.mark.parametrize("content", ["", "[]", '{"image": "a.png"}', '{"image": "a.png", "prompt": "", "b": 1}'])
def test_a_broken_example_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "example.json").write_text(content)
    with pytest.raises(InputError, match="broken"):
        load_example(tmp_path)


def test_a_missing_example_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_example(tmp_path)


@pytest.mark.skipif(not (DIRECTORY / "example.json").is_file(), reason="this checkout has no bundled example")
def test_the_bundled_example_is_a_valid_request() -> None:
    example = load_example()
    check_request(
        example.image, example.prompt, action=example.action, intrinsics=example.intrinsics, fov=example.fov
    )
