"""Short names for the content of things that results depend on: models, scenes, files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sana_wm.checkpoints.load import CONFIG_YAML, MODEL_JSON, find_model
from sana_wm.evaluation.bench.dataset import BenchScene

READ_WHOLE = 64 * 2**20
"""Bytes up to which a file is hashed whole."""
PIECES, PIECE_BYTES = 64, 2**20
"""Of larger files (weights) this many pieces, evenly spread, first and last included: training changes all of them."""


@dataclass(frozen=True)
class ModelPrint:
    """Fingerprints of a whole model and of its autoencoder alone."""

    model: str
    codec: str


def file_sha256(path: Path) -> str:
    """Hash of all bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def model_print(model: str) -> ModelPrint:
    """Fingerprints of the model that `model` means, from its files; a hub id is downloaded.

    Parts that a published `config.yaml` takes from other repositories count by their name there.
    Raises :class:`InputError` where there is no such model.
    """
    folder = find_model(model)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json", ".yaml", ".model"))
    described = [folder / name for name in (MODEL_JSON, CONFIG_YAML) if (folder / name).is_file()]
    codec = [path for path in files if path.relative_to(folder).parts[0] == "vae"]
    return ModelPrint(_files_print(folder, files), _files_print(folder, codec or described))


def scene_print(scene: BenchScene) -> str:
    """Fingerprint of everything a video of `scene` is made from: picture, prompt, path, lens, rate."""
    digest = hashlib.sha256()
    digest.update(file_sha256(scene.image_path).encode())
    digest.update(f"{scene.prompt}\0{scene.fps}".encode())
    for numbers in (scene.c2w, scene.intrinsics):
        digest.update(f"{tuple(numbers.shape)}".encode())
        digest.update(numbers.double().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _files_print(folder: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{_digest(path)}\n".encode())
    return digest.hexdigest()[:32]


def _digest(path: Path) -> str:
    """Hash of a file's length and content, of large files in pieces."""
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\0".encode())
    with path.open("rb") as file:
        if size <= READ_WHOLE:
            digest.update(file.read())
        else:
            for piece in range(PIECES):
                file.seek(piece * (size - PIECE_BYTES) // (PIECES - 1))
                digest.update(file.read(PIECE_BYTES))
    return digest.hexdigest()
