"""A training run as data: what is trained on what, for how long. Recipes are YAML files read into these dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import yaml

from sana_wm.errors import InputError
from sana_wm.models.config import (
    ChunkSettings,
    NanoAutoencoderConfig,
    NanoTextConfig,
    PipelineSettings,
    TransformerConfig,
)
from sana_wm.settings import config_from_dict
from sana_wm.training.noise_levels import ChunkNoise

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class OptimizerRecipe:
    """A linear warm-up, a constant rate, and a linear decay to zero over the last `decay_steps`.

    Attributes:
        betas: of AdamW.
        grad_clip: largest norm of all gradients together.
        ema: decay of the averaged weights.
        hidden: what moves the matrices of repeated layers: "adamw" like everything else, or "muon" at the same rate.
    """

    steps: int
    lr: float
    warmup_steps: int
    decay_steps: int
    weight_decay: float
    betas: tuple[float, float]
    grad_clip: float
    ema: float
    hidden: Literal["adamw", "muon"] = "adamw"


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


class ClipPlan(Protocol):
    """The part of a recipe that says which clips a step is taken on.

    Attributes:
        lengths: the mixture of clip lengths.
        bank_clips: latents kept for each bank length in frames.
        bank_refresh: clips of the shortest bank replaced by new ones every `bank_every` steps.
    """

    @property
    def lengths(self) -> tuple[ClipLength, ...]: ...
    @property
    def bank_clips(self) -> dict[int, int]: ...
    @property
    def bank_refresh(self) -> int: ...
    @property
    def bank_every(self) -> int: ...


def check_clips(plan: ClipPlan, steps: int, stride: int, where: str) -> None:
    """Find what would fail in the middle of a run of `steps` steps before it; `where` names the plan."""
    for length in plan.lengths:
        if length.bank not in plan.bank_clips:
            raise InputError(f"{where}.lengths names a bank of {length.bank} frames that is not in {where}.bank_clips")
        if not 1 <= length.frames <= length.bank or (length.frames - 1) % stride:
            raise InputError(
                f"{where}.lengths has {length.frames} frames from a bank of {length.bank}; they must be a multiple "
                f"of {stride} and one more, and no more than the bank's"
            )
    for step in sorted({0, *(edge for length in plan.lengths for edge in (length.start, length.stop))}):
        open_now = [length for length in plan.lengths if length.start <= step < length.stop]
        if step < steps and not any(length.share > 0 for length in open_now):
            raise InputError(f"{where}.lengths has nothing to train on at step {step} of {steps}")
    capacity = plan.bank_clips[min(plan.bank_clips)]
    if not 1 <= plan.bank_refresh <= capacity:
        raise InputError(f"{where}.bank_refresh is {plan.bank_refresh}; the shortest bank allows 1 to {capacity}")
    if plan.bank_every < 1:
        raise InputError(f"{where}.bank_every is {plan.bank_every}; it must be at least 1")


Plan = TypeVar("Plan", bound=Any)


def shared_clips(plan: Plan, share: Callable[[int, str], int], where: str) -> Plan:
    """A plan of which every batch, bank and refresh is dealt out; `plan` is a dataclass."""
    return replace(
        plan,
        lengths=tuple(replace(x, batch=share(x.batch, f"a batch of {where}.lengths")) for x in plan.lengths),
        bank_clips={f: share(clips, f"{where}.bank_clips of {f}") for f, clips in plan.bank_clips.items()},
        bank_refresh=share(plan.bank_refresh, f"{where}.bank_refresh"),
    )


def even_share(processes: int) -> Callable[[int, str], int]:
    """(count, name of the setting) -> the part of each of `processes`.

    Raises:
        InputError: it cannot be dealt out evenly.
    """

    def share(count: int, name: str) -> int:
        if count % processes:
            raise InputError(f"{name} is {count}; {processes} processes need a multiple of {processes}")
        return count // processes

    return share


@dataclass(frozen=True)
class WorldRecipe:
    """Attributes:
    flow_shift: shift of the noise levels (spec 50, section 3.1).
    caption_dropout: probability that a sample sees the empty prompt.
    camera_dropout: probability that a step runs without cameras.
    lengths: the mixture of clip lengths.
    bank_clips: latents kept for each bank length in frames.
    bank_refresh: clips of the shortest bank replaced by new ones every `bank_every` steps.
    steady_every: steps between two looks for heads whose state grows (see `steady`), 0 for none but at the end. Where
        clips of a minute are trained on, one such head is enough to end a run in NaN.
    fresh: take nothing but the codec from a model that the run starts from.
    camera_init: "silent" camera paths do nothing until they have learned something, "open" ones act from the first
        step on; see `start.open_cameras`. A run that starts from a trained model has that model's.
        chunks: train the model to see in these; None trains it to see whole clips.
        chunk_noise: how the chunks then get their noise levels.
    """

    model: TransformerConfig
    text: NanoTextConfig
    flow_shift: float
    caption_dropout: float
    camera_dropout: float
    lengths: tuple[ClipLength, ...]
    bank_clips: dict[int, int]
    bank_refresh: int
    optimizer: OptimizerRecipe
    bank_every: int = 1
    steady_every: int = 0
    fresh: bool = False
    camera_init: Literal["silent", "open"] = "silent"
    chunks: ChunkSettings | None = None
    chunk_noise: ChunkNoise = field(default_factory=ChunkNoise)

    def __post_init__(self) -> None:
        """What would fail in the middle of a run fails here."""
        check_clips(self, self.optimizer.steps, self.model.temporal_stride, "world")
        if self.steady_every < 0:
            raise InputError(f"world.steady_every is {self.steady_every}; it must be at least 0")


@dataclass(frozen=True)
class Recipe:
    seed: int
    data: DataRecipe
    autoencoder: AutoencoderRecipe
    world: WorldRecipe
    pipeline: PipelineSettings
    save_every: int
    log_every: int

    def __post_init__(self) -> None:
        """Parts that do not fit each other are found before anything is trained."""
        model, text = self.world.model, self.world.text
        pairs = (
            ("world.model.in_channels", model.in_channels, "autoencoder.model", self.autoencoder.model.latent_channels),
            ("world.model.caption_channels", model.caption_channels, "world.text", text.channels),
            ("world.model.caption_tokens", model.caption_tokens, "world.text", text.max_tokens),
        )
        for name, wanted, part, found in pairs:
            if wanted != found:
                raise InputError(f"{name} is {wanted}, but {part} makes {found}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shared_by(self, processes: int) -> Recipe:
        """The part of one of `processes` that train together: of every batch, bank and refresh its share of the clips.

        Raises:
            InputError: something cannot be dealt out evenly.
        """

        share = even_share(processes)
        autoencoder = replace(self.autoencoder, batch=share(self.autoencoder.batch, "autoencoder.batch"))
        return replace(self, autoencoder=autoencoder, world=shared_clips(self.world, share, "world"))


def load_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """Read a packaged recipe by name or a YAML file by path; `overrides` are `a.b=value` with YAML values.

    Raises:
        InputError: the file, a key or a value is wrong.
    """
    return config_from_dict(Recipe, *read_recipe(name_or_path, overrides))


def read_recipe(name_or_path: str, overrides: list[str] | None = None) -> tuple[Any, str]:
    """The values of a recipe, of whatever kind, as YAML has them, and where they come from; see :func:`load_recipe`."""
    packaged = "/" not in name_or_path and "." not in name_or_path
    path = RECIPES / f"{name_or_path}.yaml" if packaged else Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise InputError(f"recipe {name_or_path!r} is neither a YAML file nor one of the packaged recipes ({known})")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path}: not valid YAML: {_one_line(error)}") from error
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator:
            raise InputError(f"override {override!r} must look like optimizer.steps=100")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"override {override!r}: not valid YAML: {_one_line(error)}") from error
        _set(values, key.split("."), value, override)
    return values, str(path)


def _set(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        values = values.get(key, {}) if isinstance(values, dict) else {}
    if not isinstance(values, dict) or keys[-1] not in values:
        raise InputError(f"override {override!r}: the recipe has no setting {'.'.join(keys)!r}")
    values[keys[-1]] = value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
