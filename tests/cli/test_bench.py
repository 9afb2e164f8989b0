"""`sana-wm bench forward` times a real pass and writes what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_a_forward_pass_is_timed_and_written_down(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "speed" / "forward.json"
    result = run("bench", "forward", "--latent_frames", "1,2", "--runs", "2", "--device", "cpu", "--out", out)
    assert result.code == 0, result.err
    found = json.loads(out.read_text())
    assert [shape["latent_frames"] for shape in found["shapes"]] == [1, 2]
    assert all(0 < shape["seconds"] <= shape["p90_seconds"] for shape in found["shapes"])
    assert "T=2 batch=1" in result.out


@pytest.mark.parametrize(
    ("flags", "named"), [(("--preset", "9b"), "9b"), (("--latent_frames", "two"), "two"), (("--batch", "0"), "'0'")]
)
def test_wrong_input_is_named(run: Run, flags: tuple[str, str], named: str) -> None:
    result = run("bench", "forward", *flags)
    assert result.code == 2
    assert named in result.err
