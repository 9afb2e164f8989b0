"""A training run as data: what is trained on what, for how long. Recipes are YAML files read into these dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from sana_wm.errors import InputError
from sana_wm.models.config import NanoAutoencoderConfig, NanoTextConfig, PipelineSettings, TransformerConfig

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW with linear warm-up, a constant rate, and a linear decay to zero over the last `decay_steps`."""

    steps: int
    lr: float
    warmup_steps: int
    decay_steps: int
    weight_decay: float
    betas: tuple[float, float]
    grad_clip: float
    ema: float


@dataclass(frozen=True)
class DataRecipe:
    """Worlds to train on. Freedoom clips are recorded to disk first, procedural ones are rendered as they are needed.

    Attributes:
        doom_share: fraction of every batch that comes from Freedoom.
        doom_clips: for each recorded length in frames, how many clips.
    """

    height: int
    width: int
    doom_share: float
    doom_clips: dict[int, int]


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Attributes:
    batch, frames: clips a step and frames a clip.
    latent_noise: standard deviation of the noise the decoder must tolerate, with latents held near unit scale.
    latent_penalty: weight of the mean square of the latents.
    gradient_weight, square_weight: weights of the image-gradient L1 and of the squared error beside the plain L1.
    """

    model: NanoAutoencoderConfig
    batch: int
    frames: int
    latent_noise: float
    latent_penalty: float
    gradient_weight: float
    square_weight: float
    optimizer: OptimizerRecipe


@dataclass(frozen=True)
class ClipLength:
    """Steps on clips of `frames` frames: `batch` clips each, drawn with weight `share` from step `start` on.

    The clips are the first `frames` of those in the bank of `bank` frames.
    """

    frames: int
    bank: int
    batch: int
    share: float
    start: int = 0
    stop: int = 1_000_000_000


@dataclass(frozen=True)
class WorldRecipe:
    """Attributes:
    flow_shift: shift of the noise levels (spec 50, section 3.1).
    caption_dropout: probability that a sample sees the empty prompt.
    camera_dropout: probability that a step runs without cameras.
    lengths: the mixture of clip lengths.
    bank_clips: latents kept for each bank length in frames.
    bank_refresh: clips of the shortest bank replaced by new ones each step.
    compile_frames: clip lengths whose blocks are compiled on a GPU.
    """

    model: TransformerConfig
    text: NanoTextConfig
    flow_shift: float
    caption_dropout: float
    camera_dropout: float
    lengths: tuple[ClipLength, ...]
    bank_clips: dict[int, int]
    bank_refresh: int
    compile_frames: tuple[int, ...]
    optimizer: OptimizerRecipe


@dataclass(frozen=True)
class Recipe:
    seed: int
    data: DataRecipe
    autoencoder: AutoencoderRecipe
    world: WorldRecipe
    pipeline: PipelineSettings
    save_every: int
    log_every: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """Read a packaged recipe by name or a YAML file by path; `overrides` are `a.b=value` with YAML values.

    Raises:
        InputError: the file, a key or a value is wrong.
    """
    path = RECIPES / f"{name_or_path}.yaml" if "/" not in name_or_path and "." not in name_or_path else Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise InputError(f"recipe {name_or_path!r} is neither a YAML file nor one of the packaged recipes ({known})")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"recipe {path}: not valid YAML: {error}") from error
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator:
            raise InputError(f"override {override!r} must look like optimizer.steps=100")
        _set(values, key.split("."), yaml.safe_load(text), override)
    return _build(Recipe, values, str(path))


def _set(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        values = values.get(key, {}) if isinstance(values, dict) else {}
    if not isinstance(values, dict) or keys[-1] not in values:
        raise InputError(f"override {override!r}: the recipe has no setting {'.'.join(keys)!r}")
    values[keys[-1]] = value


def _build(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a mapping of settings, found {values!r}")
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind)}
    if set(values) - names:
        raise InputError(f"{where}: unknown setting {sorted(set(values) - names)[0]!r}; known are {', '.join(sorted(names))}")
    built = {}
    for name, value in values.items():
        hint = hints[name]
        if is_dataclass(hint):
            built[name] = _build(hint, value, f"{where}: {name}")
        elif hint == tuple[ClipLength, ...]:
            built[name] = tuple(_build(ClipLength, item, f"{where}: {name}") for item in value)
        elif isinstance(value, list):
            built[name] = tuple(value)
        else:
            built[name] = float(value) if hint is float else value
    try:
        return kind(**built)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from error
