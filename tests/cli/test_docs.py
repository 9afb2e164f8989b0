"""Every command and every program in the user's pages works as it stands (with a tiny model in the place of nano)."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from sana_wm.checkpoints import load
from sana_wm.engine import example
from tests.cli.conftest import Run

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("getting-started.md", "camera-control.md", "streaming.md")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, content) of the code blocks of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```(bash|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works(
    page: str, run: Run, model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"image": image.name, "prompt": "a street", "action": "w-80", "fov": 65}
    (image.parent / "example.json").write_text(json.dumps(content))
    (tmp_path / "photo.jpg").write_bytes(image.read_bytes())
    monkeypatch.setattr(example.load_example, "__defaults__", (image.parent,))
    monkeypatch.setattr(load, "BUNDLED_DIRECTORY", model)
    monkeypatch.chdir(tmp_path)
    found = blocks(page)
    assert {language for language, _ in found} == {"bash", "python"}
    for language, code in found:
        if language == "python":
            exec(compile(code, page, "exec"), {})
            continue
        for line in code.splitlines():
            command, *arguments = shlex.split(line)
            assert command == "sana-wm"
            result = run(*arguments)
            assert result.code == 0, f"{line}: {result.err}"


def test_the_file_of_jobs_in_the_docs_is_made_as_it_is_written(
    run: Run, model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one replica; `tests/serving/batch` has several."""
    text = (DOCS / "batch.md").read_text(encoding="utf-8")
    (content,) = re.findall(r"^```jsonl\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "jobs.jsonl").write_text(content, encoding="utf-8")
    (tmp_path / "photo.jpg").write_bytes(image.read_bytes())
    monkeypatch.setattr(load, "BUNDLED_DIRECTORY", model)
    monkeypatch.chdir(tmp_path)
    for _, code in blocks("batch.md"):
        (line,) = code.splitlines()
        command, *arguments = shlex.split(re.sub(r"--replicas \d+", "", line))
        assert command == "sana-wm"
        result = run(*arguments)
        assert result.code == 0, result.err
        assert "3 done" in result.out


@pytest.mark.parametrize("page", [*PAGES, "batch.md"])
def test_flags_and_links_of_a_page_exist(page: str, run: Run) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    verbs = (("generate",), ("convert",), ("evaluate", "rollout"), ("bench", "stream"))
    help_text = "".join(run(*verb, "--help").out for verb in verbs)
    for flag in set(re.findall(r"--[a-z_]{3,}", text)):
        assert flag in help_text, flag
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DOCS / link).exists(), link
