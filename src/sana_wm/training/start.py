"""Where the weights of a run come from: a model that was trained before, or from nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import nn

from sana_wm.checkpoints.load import find_model, load_components
from sana_wm.errors import InputError
from sana_wm.models.config import PipelineSettings
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import NanoTextEncoder
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.training.recipe import Recipe

OPEN_GAIN = 0.5
"""Gain of the camera branch's output when it starts open, so that the main branch leads at first."""


@dataclass(frozen=True)
class Start:
    """The parts of a trained model, float32 on the CPU, how it is used, and what identifies its weights."""

    codec: NanoAutoencoder
    transformer: SanaWMTransformer
    text: NanoTextEncoder
    settings: PipelineSettings
    model: str
    sha256: str

    def record(self) -> dict[str, str]:
        """What recipe.json says of it."""
        return {"model": self.model, "sha256": self.sha256}


def load_start(source: str, recipe: Recipe) -> Start:
    """Load a model of ours, full or int8, to train on from; `source` as for
    :func:`~sana_wm.checkpoints.load.load_components`.

    Raises:
        InputError: there is no such model, or it is not of the sizes that `recipe` trains.
    """
    start = load_trained(source)
    pairs = (
        ("autoencoder.model", start.codec.config, recipe.autoencoder.model),
        ("world.model", start.transformer.config, recipe.world.model),
        ("world.text", start.text.config, recipe.world.text),
    )
    for name, found, wanted in pairs:
        if recipe.world.fresh and name.startswith("world."):
            continue  # nothing of these is taken
        for field in fields(wanted):
            ours, theirs = getattr(wanted, field.name), getattr(found, field.name)
            if ours != theirs:
                raise InputError(
                    f"{name}.{field.name} of the recipe is {ours}, but {source} has {theirs}; they must be equal"
                )
    return start


def load_trained(source: str) -> Start:
    """The same for whoever takes a model of any size.

    Raises:
        InputError: there is no such model, or it has parts that no recipe trains.
    """
    folder = find_model(source)
    parts = load_components(folder, dtype=torch.float32)
    codec, text = parts.codec, parts.text_encoder
    if not isinstance(codec, NanoAutoencoder) or not isinstance(text, NanoTextEncoder):
        raise InputError(f"{source} is not a model of the nano world; only one that a recipe trained can be trained on")
    return Start(codec, parts.transformer, text, parts.settings, source, _fingerprint(folder))


@torch.no_grad()
def open_cameras(transformer: SanaWMTransformer, generator: torch.Generator) -> None:
    """Let both camera paths act from the first step on, in place, after `init_transformer`.

    Their silent start keeps a trained base unharmed while cameras are added to it. From scratch there is nothing to
    keep, and a path behind a zero has to grow that zero away first.
    """
    embedder = transformer.plucker_embedder.proj
    nn.init.xavier_uniform_(embedder.weight.view(embedder.out_channels, -1), generator=generator)
    for block in transformer.blocks:
        projection = block.get_submodule("attn.out_proj_cam")
        assert isinstance(projection, nn.Linear)
        nn.init.xavier_uniform_(projection.weight, gain=OPEN_GAIN, generator=generator)


def _fingerprint(folder: Path) -> str:
    """SHA-256 of all weights, by which a run that is taken up again knows what it began with."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
