"""Distillation of a tiny model: both stages learn, only the student changes, and nothing that happens to a run changes
what it ends with."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from sana_wm.checkpoints.load import load_components
from sana_wm.errors import InputError
from sana_wm.models import chunked
from sana_wm.training import self_forcing
from sana_wm.training.distil import distil
from sana_wm.training.distill_recipe import DistillRecipe, load_any_recipe
from sana_wm.training.distillation import Matching, rollout
from sana_wm.training.ode import OdeStage
from sana_wm.training.progress import Stop, checkpoints, run_stage
from sana_wm.training.recipe import Recipe
from sana_wm.training.scores import trajectory_sigmas
from sana_wm.training.self_forcing import GENERATOR, SelfForcingStage
from tests.training import tiny_distil
from tests.training.test_train import ROOT, files
from tests.training.tiny import CPU, assert_same, log, stopped_after

Stage = OdeStage | SelfForcingStage
BUILD: dict[str, Callable[[DistillRecipe], Stage]] = {"ode": tiny_distil.ode, "self_forcing": tiny_distil.self_forcing}
PLAN: dict[str, Any] = {"save_every": 2, "log_every": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Stage, Path]]:
    """Both stages without a break."""
    done: dict[str, tuple[Stage, Path]] = {}
    for name, build in BUILD.items():
        stage, directory = build(tiny_distil.recipe()), tmp_path_factory.mktemp(name)
        assert run_stage(stage, directory, stop=Stop(), **PLAN)
        done[name] = (stage, directory)
    return done


@pytest.mark.parametrize("name", BUILD)
def test_a_stopped_stage_ends_as_an_uninterrupted_one(
    name: str, whole: dict[str, tuple[Stage, Path]], tmp_path: Path
) -> None:
    """Same losses, same weights of student and critic, same moments, same average, bit by bit."""
    expected, its_log = whole[name]
    for at in (1, 4):  # between two checkpoints, and at one
        stage, stop = stopped_after(BUILD[name](tiny_distil.recipe()), at)
        assert not run_stage(stage, tmp_path, stop=stop, **PLAN)
    last = BUILD[name](tiny_distil.recipe())
    assert run_stage(last, tmp_path, stop=Stop(), **PLAN)
    assert log(tmp_path) == log(its_log)
    assert_same(last.state_tensors(), expected.state_tensors())


@pytest.mark.parametrize("name", BUILD)
def test_every_weight_that_is_trained_moves_and_its_average_too(
    name: str, whole: dict[str, tuple[Stage, Path]]
) -> None:
    start, trained = BUILD[name](tiny_distil.recipe()).state_tensors(), whole[name][0].state_tensors()
    still = [key for key, value in start.items() if torch.equal(trained[key], value)]
    assert [key for key in still if not key.endswith("y_embedding")] == []


@pytest.mark.parametrize("name", BUILD)
def test_teacher_and_text_encoders_stay_as_they_are(name: str, whole: dict[str, tuple[Stage, Path]]) -> None:
    stage = whole[name][0]
    world, _ = tiny_distil.parts()
    assert_same(dict(stage.text.state_dict()), dict(world.text.state_dict()))
    teacher = stage.bank.teacher if isinstance(stage, OdeStage) else stage.teacher
    assert_same(dict(teacher.transformer.state_dict()), dict(world.transformer.state_dict()))


@pytest.mark.parametrize("name", BUILD)
def test_the_finished_student_is_the_average_with_steady_heads(name: str) -> None:
    """Heads whose state would grow from frame to frame are quietened, and nothing else is touched."""
    stage = BUILD[name](tiny_distil.recipe())
    average = stage.optimizer.ema if isinstance(stage, OdeStage) else stage.generator_optimizer.ema
    gains = average.average["blocks.0.attn.k_norm.weight"].view(2, -1)
    gains[0] *= 0.1
    gains[1] *= 30
    before = {key: value.clone() for key, value in average.average.items()}
    model = stage.finished()
    after = model.get_parameter("blocks.0.attn.k_norm.weight").view(2, -1)
    assert torch.equal(after[0], gains[0])
    assert after[1].norm() < 0.5 * gains[1].norm()
    for key, parameter in model.named_parameters():
        assert "k_norm" in key or torch.equal(parameter, before[key])


# ---- trajectories


def test_a_trajectory_leads_from_noise_to_the_end_of_the_teachers_way() -> None:
    stage = tiny_distil.ode(tiny_distil.recipe())
    stage.step(0)
    bank = stage.bank
    ways = bank.draw(4, 17, torch.Generator().manual_seed(0)).latents.unflatten(1, (3, -1))
    assert torch.equal(ways[:, 0, :, 0], ways[:, 2, :, 0])  # the first frame is given
    noise = ways[:, 0, :, 1:]
    assert abs(float(noise.mean())) < 0.2
    assert abs(float(noise.std()) - 1) < 0.1
    assert not torch.equal(ways[:, 1, :, 1:], ways[:, 2, :, 1:])
    assert bank.sigmas.tolist()[0] == 1
    assert 0.75 in bank.sigmas.tolist()


def test_steps_of_teacher_and_student_are_taken_together() -> None:
    together = trajectory_sigmas(torch.tensor([1.0, 0.7501, 0.3, 0.0]), [1.0, 0.75, 0.5, 0.0])
    assert [round(x, 4) for x in together.tolist()] == [1, 0.75, 0.5, 0.3, 0]


def test_a_bank_of_trajectories_follows_from_the_step() -> None:
    """Rebuilt at a later step it holds what it held there."""
    stage, late = (tiny_distil.ode(tiny_distil.recipe()) for _ in range(2))
    for step in range(3):
        stage.step(step)
    late.step(2)
    ours, theirs = (s.bank.draw(8, 17, torch.Generator().manual_seed(0)).latents for s in (late, stage))
    assert torch.equal(ours, theirs)


def test_the_student_learns_the_ways_of_its_teacher() -> None:
    optimizer = "{steps: 60, lr: 3e-3, warmup_steps: 5, decay_steps: 20, weight_decay: 0.0, betas: [0.9, 0.99], " \
        "grad_clip: 1.0, ema: 0.9}"  # fmt: skip
    stage = tiny_distil.ode(tiny_distil.recipe(f"ode.optimizer={optimizer}", "ode.refresh_every=100"))
    losses = [float(stage.step(step)["loss"]) for step in range(60)]
    assert sum(losses[-15:]) < 0.5 * sum(losses[:15])


# ---- self-forcing


def test_a_critic_that_agrees_with_the_teacher_leaves_the_student_alone() -> None:
    stage = tiny_distil.self_forcing(tiny_distil.recipe())
    found = stage._generator_step(1)
    assert float(found["generator"]) < 1e-10
    assert float(found["generator_grad"]) < 1e-4


def test_the_critic_learns_what_the_student_makes() -> None:
    """The same clips under the same noise again and again."""
    stage = tiny_distil.self_forcing(tiny_distil.recipe("self_forcing.critic.lr=6e-3"))
    losses = [float(stage._critic_step(0)["critic"]) for _ in range(25)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_student_follows_the_difference_of_the_scores() -> None:
    """A critic that expects brighter clips than the teacher does says that those of the student are too bright."""
    stage = tiny_distil.self_forcing(tiny_distil.recipe("self_forcing.generator.lr=1e-2"))
    bias = stage.critic.transformer.final_layer.linear.bias
    with torch.no_grad():
        bias -= 0.5  # x0 = x - sigma v: its guess is brighter than the teacher's

    @torch.no_grad()
    def brightness() -> float:
        batch, numbers = stage._draw(1, GENERATOR)
        return float(stage.make(batch, 1, GENERATOR, numbers)[:, :, 1:].mean())

    before = brightness()
    for _ in range(8):
        stage._generator_step(1)
    assert brightness() < before - 0.05


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_of_a_rollout_reach_every_weight(autocast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where weights are copied to bfloat16: copies that calls without gradients made must not be used again."""
    init = chunked.ChunkedModel.__init__

    def with_autocast(self: chunked.ChunkedModel, *args: Any, **more: Any) -> None:
        init(self, *args, **{**more, "autocast": autocast})

    monkeypatch.setattr(chunked.ChunkedModel, "__init__", with_autocast)
    stage = tiny_distil.self_forcing(tiny_distil.recipe("pipeline.stream.timesteps=[1000, 900, 800, 700, 0]"))
    batch, numbers = stage._draw(0, GENERATOR)
    stage.make(batch, 0, GENERATOR, numbers).square().mean().backward()
    without = [name for name, p in stage.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_what_is_made_is_a_rollout_that_ends_early_for_some() -> None:
    """Every exit step comes, and another batch or another half of a step has noise of its own."""
    stage = tiny_distil.self_forcing(tiny_distil.recipe())
    seen: set[int] = set()
    made: list[Tensor] = []

    def listen(*args: Any) -> Tensor:
        seen.add(args[4])
        made.append(args[1])
        return rollout(*args)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("sana_wm.training.self_forcing.rollout", listen)
        for step in range(4):
            for whose in (0, 1):
                batch, numbers = stage._draw(0, whose)
                stage.make(batch, step, whose, numbers)
    assert seen == {0, 1}
    assert not torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_only_some_chunks_of_a_long_clip_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ones is drawn; in a clip that has no more all are, as without a limit."""
    stage = tiny_distil.self_forcing(tiny_distil.recipe("self_forcing.learning_chunks=2"))
    seen = {tuple(stage._learning(4, step)) for step in range(30)}  # chunks of 2, 1 and 1 latents
    assert seen == {(0, 1), (1, 2)}
    assert stage._learning(3, 0) == range(2)
    assert tiny_distil.self_forcing(tiny_distil.recipe())._learning(4, 0) == range(3)

    matched: list[Tensor] = []
    match = self_forcing.match_distributions

    def listen(generated: Tensor, fake: Tensor, real: Tensor) -> Matching:
        assert generated.shape == fake.shape == real.shape
        matched.append(generated)
        return match(generated, fake, real)

    monkeypatch.setattr(self_forcing, "match_distributions", listen)
    for step in range(3, 9):  # lengths of 3 and 4 latents
        stage._generator_step(step)
    assert {x.shape[2] for x in matched} == {3}  # two chunks from the first on, or one frame more before two
    assert all(x.requires_grad for x in matched)


def test_guidance_asks_the_teacher_once_more() -> None:
    """And changes what the student learns."""
    losses = []
    for scale in (0.0, 3.0):
        stage = tiny_distil.self_forcing(tiny_distil.recipe(f"self_forcing.real_guidance={scale}"))
        losses.append(float(stage._generator_step(1)["generator"]))
    assert losses[0] < 1e-10 < 1e-4 < losses[1]


# ---- whole runs


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_distil.saved(tmp_path_factory.mktemp("teacher") / "model")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    """The directory of a run that nothing happened to."""
    directory = tmp_path_factory.mktemp("distil")
    assert run(directory, teacher) == directory / "model"
    return directory


def run(directory: Path, teacher: Path, init: Path | None = None, *overrides: str) -> Path | None:
    recipe = tiny_distil.recipe(f"teacher={teacher}", *overrides)
    return distil(recipe, directory, device=CPU, stop=Stop(), workers=0, init=str(init or teacher))


def test_a_run_leaves_a_student_that_knows_its_steps(uninterrupted: Path) -> None:
    for name in ("model", "model_int8"):
        parts = load_components(str(uninterrupted / name), device=CPU, dtype=torch.float32)
        assert parts.settings == tiny_distil.recipe().pipeline
        assert parts.settings.stream is not None
        assert parts.settings.stream.sigmas == [1.0, 0.75, 0.0]


def test_a_killed_run_ends_with_the_model_of_an_uninterrupted_one(
    uninterrupted: Path, teacher: Path, tmp_path: Path
) -> None:
    """Once between two checkpoints of the first stage, once while the second one saves."""
    recipe = tmp_path / "recipe.yaml"
    values = yaml.safe_load(Path(tiny_distil.RECIPE).read_text()) | {"teacher": str(teacher)}
    recipe.write_text(yaml.safe_dump(values))
    directory = tmp_path / "run"
    for what, stage in (("kill", "ode"), ("kill-saving", "self_forcing")):
        command = [sys.executable, "-m", "tests.training.interrupted_run", str(recipe), str(directory)]
        command += ["0", what, stage, "3"]
        died = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=120, start_new_session=True, check=False
        )
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert [path.name for path in checkpoints(directory / stage)] == ["step_00000002"]
    assert run(directory, teacher) == directory / "model"
    for stage in BUILD:
        assert log(directory / stage) == log(uninterrupted / stage)
    for name in ("model", "model_int8"):
        assert files(directory / name) == files(uninterrupted / name)


def test_another_beginning_or_another_teacher_is_refused(uninterrupted: Path, tmp_path: Path, teacher: Path) -> None:
    other = tiny_distil.saved(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="a run that started from"):
        run(uninterrupted, teacher, other)
    with pytest.raises(InputError, match="a run of the teacher"):
        run(uninterrupted, other, teacher)
    with pytest.raises(InputError, match="a run of another model"):
        run(uninterrupted, teacher, None, "pipeline.stream.timesteps=[1000, 0]")


def test_a_teacher_that_sees_in_chunks_is_refused(uninterrupted: Path, tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(InputError, match="a teacher sees whole clips"):
        run(tmp_path, uninterrupted / "model", teacher)
    assert not list(tmp_path.iterdir())


def test_a_distillation_needs_a_beginning(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --init"):
        distil(tiny_distil.recipe(), tmp_path, device=CPU, stop=Stop(), workers=0, init=None)


# ---- recipes


@pytest.mark.parametrize("name", ["nano-ode", "nano-forcing"])
def test_packaged_distillations_are_complete(name: str) -> None:
    recipe = load_any_recipe(name)
    assert isinstance(recipe, DistillRecipe)
    assert recipe.stream.timesteps == (1000, 900, 750, 500, 0)
    assert recipe.shared_by(2).seed == recipe.seed


def test_the_packaged_causal_recipe_trains_the_model_of_nano_in_chunks() -> None:
    causal, nano = load_any_recipe("nano-causal"), load_any_recipe("nano")
    assert isinstance(causal, Recipe)
    assert isinstance(nano, Recipe)
    assert causal.world.model == nano.world.model
    assert causal.autoencoder.model == nano.autoencoder.model
    assert causal.world.chunks is not None
    assert causal.pipeline.stream is not None


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("pipeline.stream.timesteps=[]", "pipeline.stream.timesteps"),
        ("pipeline.stream.timesteps=[1000, 500]", "the last one to 0"),
        ("pipeline.stream.timesteps=[500, 1000, 0]", "they must fall"),
        ("pipeline.stream.chunks.size=0", "chunks.size is 0"),
        ("ode.frames=16", "ode.frames is 16"),
        ("ode.refresh=5", "ode.refresh is 5"),
        ("self_forcing.generator.steps=7", "both count steps of the critic"),
        ("self_forcing.score_range=[0.9, 0.1]", "score_range is 0.9 to 0.1"),
        ("self_forcing.lengths=[{frames: 9, bank: 33, batch: 2, share: 1.0}]", "self_forcing.lengths names a bank"),
    ],
)
def test_a_plan_that_would_fail_is_refused_before_it(override: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        tiny_distil.recipe(override)


def test_a_distillation_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="a part `ode`"):
        tiny_distil.recipe("ode=null", "self_forcing=null")


def test_what_cannot_be_shared_evenly_is_named() -> None:
    with pytest.raises(InputError, match=r"ode\.batch is 3"):
        tiny_distil.recipe("ode.batch=3").shared_by(2)
