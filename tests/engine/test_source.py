"""What a command line says of a model is found right or wrong before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sana_wm.checkpoints.save import save_pretrained
from sana_wm.engine.source import ModelSource
from sana_wm.errors import InputError
from tests.engine.tiny import tiny_components

CPU = torch.device("cpu")


def test_names_become_a_device_and_numbers() -> None:
    assert ModelSource.of("nano", "cpu") == ModelSource("nano", CPU, torch.float32, False)
    assert ModelSource.of("there/is-none", "cpu", "bfloat16") == ModelSource("there/is-none", CPU, torch.bfloat16)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "float16"}, "dtype is 'float16'; it must be one of auto, float32, bfloat16"),
        ({"device": "gpu"}, "device is 'gpu'"),
        ({"device": "cpu", "fp8": True}, "fp8"),
    ],
)
def test_what_there_is_not_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelSource.of("nano", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_the_transformer_has_the_numbers_asked_for(tmp_path: Path, dtype: str) -> None:
    save_pretrained(tmp_path / "model", tiny_components())
    source = ModelSource.of(str(tmp_path / "model"), "cpu", dtype)
    assert source.load().transformer.dtype == (torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    with pytest.raises(InputError, match="no model"):
        replace(source, model=str(tmp_path / "other")).load()
