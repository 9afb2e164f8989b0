"""Hub repositories: which text is one, and what a person reads when none can be had."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub.constants
import pytest

from sana_wm.checkpoints.hub import MODEL_FILES, TEXT_FILES, VAE_FILES, HubId, download, parse_hub_id
from sana_wm.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/repo", HubId("owner/repo")),
        ("Some-Owner/a_model.v1@main", HubId("Some-Owner/a_model.v1", "main")),
        ("owner/repo@refs/pr/3", HubId("owner/repo", "refs/pr/3")),
        ("hf://owner/repo", HubId("owner/repo")),
        ("nano", None),
        ("./owner", None),
        ("../repo", None),
        ("/absolute/path", None),
        ("a/b/c", None),
        ("owner/repo@", None),
        ("owner/re po", None),
        ("", None),
    ],
)
def test_only_owner_and_repository_name_one(text: str, expected: HubId | None) -> None:
    assert parse_hub_id(text) == expected


@pytest.mark.parametrize(
    "name",
    ["modeling.py", "dit/model.pt", "dit/x.ckpt", "text_encoder/a.bin", "vae/x.py", "refiner/a.safetensors", "run.sh"],
)
def test_code_and_pickles_are_never_fetched(name: str) -> None:
    patterns = (*MODEL_FILES, *VAE_FILES)
    assert not any(fnmatch(name, pattern) for pattern in patterns)
    if not name.endswith(".safetensors"):
        assert not any(fnmatch(name, pattern) for pattern in TEXT_FILES)


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("_offline")
def test_without_a_network_the_error_is_one_sentence_with_the_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="owner/repo@v1 could not be downloaded") as caught:
        download(HubId("owner/repo", "v1"), MODEL_FILES, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_offline")
def test_what_is_in_the_cache_needs_no_network(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--owner--repo"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "snapshots" / commit / "model.json").write_text("{}")
    folder = download(HubId("owner/repo"), MODEL_FILES, cache_dir=tmp_path)
    assert (folder / "model.json").read_text() == "{}"
