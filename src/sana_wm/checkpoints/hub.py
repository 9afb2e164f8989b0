"""Model repositories on the Hugging Face hub: `owner/repo[@revision]`, data files only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sana_wm.errors import InputError, first_line

SCHEME = "hf://"
_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")

MODEL_FILES = (
    "model.json",
    "config.yaml",
    "dit/*.safetensors",
    "dit/*.json",
    "vae/*.safetensors",
    "vae/*.json",
    "text_encoder/*.safetensors",
    "text_encoder/*.json",
    "text_encoder/tokenizer.model",
)
"""Files of a world model that are read: weights, configuration and tokenizer, never code or pickles."""

TEXT_FILES = ("*.safetensors", "*.json", "tokenizer.model")
VAE_FILES = ("vae/*.safetensors", "vae/*.json", "ltx2_causal_vae/*.safetensors", "ltx2_causal_vae/*.json")


@dataclass(frozen=True)
class HubId:
    """A repository and, optionally, a branch, tag or commit of it."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def parse_hub_id(text: str) -> HubId | None:
    """`owner/repo`, `owner/repo@revision`, each optionally after `hf://`; None if `text` is something else."""
    match = _ID.fullmatch(text.removeprefix(SCHEME))
    if match is None or any(part.strip(".") == "" for part in match["repo"].split("/")):
        return None
    return HubId(match["repo"], match["revision"])


def download(hub_id: HubId, patterns: Sequence[str], *, cache_dir: Path | None = None) -> Path:
    """Folder with the files of `hub_id` that match `patterns`, from the local cache where it has them.

    Raises:
        InputError: the repository or revision does not exist, is not open to us, or the network does not answer.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        folder = snapshot_download(
            hub_id.repo, revision=hub_id.revision, allow_patterns=list(patterns), cache_dir=cache_dir
        )
    except (HTTPError, OSError, HFValidationError) as error:
        raise InputError(
            f"{hub_id} could not be downloaded from the Hugging Face hub ({first_line(error)}); "
            "check the name and the network, or give a local directory"
        ) from error
    return Path(folder)
