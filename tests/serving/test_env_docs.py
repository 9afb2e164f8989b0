"""What the page about the environment shows works as it stands (with a tiny model in the place of nano)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sana_wm.checkpoints import load
from sana_wm.checkpoints.save import save_pretrained
from tests.engine.tiny import picture, tiny_components

pytest.importorskip("gymnasium")

DOCS = Path(__file__).parents[2] / "docs"


def test_what_the_page_shows_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pretrained(tmp_path / "model", tiny_components())
    picture(96, 64).save(tmp_path / "photo.jpg")
    monkeypatch.setattr(load, "BUNDLED_DIRECTORY", tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "gymnasium.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for code in blocks:
        exec(compile(code, "gymnasium.md", "exec"), {})
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("1 ")
    assert float(last) == pytest.approx(24 * 0.025)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DOCS / link).exists(), link
