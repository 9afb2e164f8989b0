"""A distillation as data: a teacher, the few steps of the student, and by which losses it gets there (spec 51)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from sana_wm.errors import InputError
from sana_wm.models.config import ChunkSettings, PipelineSettings, StreamSettings
from sana_wm.settings import config_from_dict
from sana_wm.training.recipe import (
    ClipLength,
    DataRecipe,
    OptimizerRecipe,
    Recipe,
    check_clips,
    even_share,
    read_recipe,
    shared_clips,
)

STRIDE = 8
"""Frames of a latent; a student of another codec is refused when it is loaded."""


@dataclass(frozen=True)
class OdeRecipe:
    """Learning from trajectories that the teacher makes while the run goes on (section 3).

    Attributes:
        frames, batch: of the clips of a step.
        trajectories: how many are kept; `refresh` of them are replaced by new ones every `refresh_every` steps.
        teacher_steps, flow_shift: Euler steps of the teacher, to which the student's own noise levels are added.
        guidance_scale: of the teacher; 1 is none.
    """

    optimizer: OptimizerRecipe
    frames: int
    batch: int
    trajectories: int
    refresh: int
    refresh_every: int
    teacher_steps: int
    flow_shift: float
    guidance_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.frames - 1) % STRIDE:
            raise InputError(f"ode.frames is {self.frames}; it must be a multiple of {STRIDE} and one more")
        if not 1 <= self.refresh <= self.trajectories:
            raise InputError(f"ode.refresh is {self.refresh}; {self.trajectories} trajectories allow 1 to that many")
        if min(self.batch, self.refresh_every, self.teacher_steps) < 1:
            raise InputError("ode.batch, ode.refresh_every and ode.teacher_steps must be at least 1")


@dataclass(frozen=True)
class SelfForcingRecipe:
    """Matching what the student makes from its own past with what the teacher would (section 4).

    A step is one of the critic; the student takes its own at the end of every `generator_every` of them. Both
    schedules count steps of the critic. In the release the student goes first; after the critic it has somewhere to go
    from its first step on.

    Attributes:
        lengths, bank_clips, bank_refresh, bank_every: as of the world; see `recipe.ClipPlan`. Of a clip only the first
            frame, the cameras and the caption are used, and the rest for telling how far from it the student is.
        score_shift, score_range: at which noise levels critic and teacher are compared, as sigmas.
        learning_chunks: so many chunks in a row, drawn at random, are moved in a clip that has more; 0 moves all. The
            scores see the whole clip, so a student can learn from long ones at the cost of short ones.
        real_guidance: how far the teacher's guess is pushed away from that without the prompt; 0 is not at all, 3 is
            a guidance scale of 4.
    """

    generator: OptimizerRecipe
    critic: OptimizerRecipe
    generator_every: int
    lengths: tuple[ClipLength, ...]
    bank_clips: dict[int, int]
    bank_refresh: int
    bank_every: int
    score_shift: float
    score_range: tuple[float, float] = (0.02, 0.98)
    learning_chunks: int = 0
    real_guidance: float = 0.0

    def __post_init__(self) -> None:
        check_clips(self, self.critic.steps, STRIDE, "self_forcing")
        if self.generator.steps != self.critic.steps:
            raise InputError(
                f"self_forcing.generator.steps is {self.generator.steps} and self_forcing.critic.steps "
                f"{self.critic.steps}; both count steps of the critic, and must be equal"
            )
        if self.generator_every < 1:
            raise InputError(f"self_forcing.generator_every is {self.generator_every}; it must be at least 1")
        if self.learning_chunks < 0:
            raise InputError(f"self_forcing.learning_chunks is {self.learning_chunks}; it must be 0, for all, or more")
        low, high = self.score_range
        if not 0 < low < high <= 1:
            raise InputError(f"self_forcing.score_range is {low} to {high}; it must rise inside 0 to 1")


@dataclass(frozen=True)
class DistillRecipe:
    """One or both ways, one after the other. `pipeline.stream` says what the student becomes: its chunks and steps.

    Attributes:
        teacher: a directory of a model that sees whole clips. Its codec must be the student's.
    """

    seed: int
    data: DataRecipe
    teacher: str
    pipeline: PipelineSettings
    save_every: int
    log_every: int
    ode: OdeRecipe | None = None
    self_forcing: SelfForcingRecipe | None = None

    def __post_init__(self) -> None:
        if self.ode is None and self.self_forcing is None:
            raise InputError("a distillation needs a part `ode`, a part `self_forcing`, or both")
        if self.pipeline.stream is None or not self.pipeline.stream.timesteps:
            raise InputError("a distillation needs pipeline.stream.timesteps: the steps of the student")

    @property
    def stream(self) -> StreamSettings:
        assert self.pipeline.stream is not None
        return self.pipeline.stream

    @property
    def chunks(self) -> ChunkSettings:
        return self.stream.chunks

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.data.height, self.data.width

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shared_by(self, processes: int) -> DistillRecipe:
        """The part of one of `processes` that train together; as of :class:`~sana_wm.training.recipe.Recipe`."""
        share = even_share(processes)
        ode, forcing = self.ode, self.self_forcing
        if ode is not None:
            ode = replace(
                ode,
                batch=share(ode.batch, "ode.batch"),
                trajectories=share(ode.trajectories, "ode.trajectories"),
                refresh=share(ode.refresh, "ode.refresh"),
            )
        if forcing is not None:
            forcing = shared_clips(forcing, share, "self_forcing")
        return replace(self, ode=ode, self_forcing=forcing)


def load_any_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe | DistillRecipe:
    """A recipe of either kind; one with a teacher is a distillation. See :func:`~sana_wm.training.recipe.load_recipe`.

    Raises:
        InputError: the file, a key or a value is wrong.
    """
    values, where = read_recipe(name_or_path, overrides)
    if isinstance(values, dict) and "teacher" in values:
        return config_from_dict(DistillRecipe, values, where)
    return config_from_dict(Recipe, values, where)
