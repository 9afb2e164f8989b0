"""A loss and its gradients may be recorded: nothing but the numbers in tensors decides what they are, and steps that
are replayed are those that were not recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sana_wm.engine.replay import tensors_of, with_tensors
from sana_wm.models.config import ChunkSettings
from sana_wm.training.distillation import score_sigma
from sana_wm.training.objective import add_noise
from sana_wm.training.ode import OdeStage
from sana_wm.training.optim import Optimizer
from sana_wm.training.recorded import RecordedDenoise, RecordedLoss, loss_with_gradients, maybe_recorded
from sana_wm.training.scores import Score
from sana_wm.training.self_forcing import SelfForcingStage
from sana_wm.training.world import WorldStage
from tests.training import tiny, tiny_distil
from tests.training.test_recorded import Repeated
from tests.training.tiny import CPU, assert_same

Stage = WorldStage | OdeStage | SelfForcingStage
STEPS = 8
WORLD = (f"world.optimizer.steps={STEPS}",)
LENGTHS = "[{frames: 9, bank: 17, batch: 2, share: 1.0}, {frames: 17, bank: 17, batch: 2, share: 1.0}]"
LONG = "[{frames: 17, bank: 17, batch: 2, share: 1.0}, {frames: 25, bank: 25, batch: 2, share: 1.0}]"


def world(device: torch.device, recorded: bool) -> WorldStage:
    """Captions and cameras are dropped now and then, and heads are looked at in the middle."""
    drop = ("world.camera_dropout=0.4", "world.caption_dropout=0.5")
    return tiny.world(
        tiny.recipe(*WORLD, *drop, f"world.lengths={LENGTHS}", f"world.recorded={recorded}"), device=device
    )


def causal(device: torch.device, recorded: bool) -> WorldStage:
    recipe = tiny.recipe(*WORLD, "world.camera_dropout=0.0", f"world.lengths={LONG}", f"world.recorded={recorded}")
    return tiny.world(replace(recipe, world=replace(recipe.world, chunks=ChunkSettings(1))), device=device)


def ode(device: torch.device, recorded: bool, frames: int = 17) -> OdeStage:
    changes = (f"ode.optimizer.steps={STEPS}", f"ode.frames={frames}", "ode.guidance_scale=2.0")
    return tiny_distil.ode(tiny_distil.recipe(*changes, f"ode.recorded={recorded}"), device=device)


def self_forcing(device: torch.device, recorded: bool) -> SelfForcingStage:
    long = (
        f"self_forcing.generator.steps={STEPS}",
        f"self_forcing.critic.steps={STEPS}",
        f"self_forcing.lengths={LONG}",
    )
    changes = ("self_forcing.real_guidance=2.0", f"self_forcing.recorded={recorded}")
    return tiny_distil.self_forcing(tiny_distil.recipe(*long, *changes), device=device)


BUILD: dict[str, Callable[[torch.device, bool], Stage]] = {
    "world": world, "causal": causal, "ode": ode, "longer ode": partial(ode, frames=33), "self_forcing": self_forcing
}  # fmt: skip


def function(stage: Stage) -> Callable[..., Tensor]:
    """What is recorded of a stage."""
    return stage._critic_error if isinstance(stage, SelfForcingStage) else stage._error


def optimizer(stage: Stage) -> Optimizer:
    """That of what is recorded."""
    return stage.critic_optimizer if isinstance(stage, SelfForcingStage) else stage.optimizer


def steps(stage: Stage) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """What `STEPS` steps said, and the gradients before each was taken."""
    gradients: list[dict[str, Tensor]] = []
    of = optimizer(stage)
    update = of.update

    def listen(step: int) -> Tensor:
        gradients.append({name: p.grad.clone() for name, p in of.module.named_parameters() if p.grad is not None})
        return update(step)

    of.update = listen  # type: ignore[method-assign]
    return [stage.step(step) for step in range(STEPS)], gradients


# ---- on a CPU: what a recording would do


class Tape(TorchDispatchMode):
    """A CUDA graph for a CPU: operations on tensors that stay where they are, done again. No Python is passed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        self.done.append((op, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for op, args, kwargs, result in self.done:
            for old, new in zip(tree_leaves(result), tree_leaves(op(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # neither a view nor changed in place
                    old.copy_(new)


class Queue:
    """The only stream of a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait_stream(self, other: Queue) -> None:
        assert other.device == self.device


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What :class:`RecordedLoss` asks of a GPU, for a CPU."""
    found = {
        "CUDAGraph": Tape, "graph": lambda tape, **settings: tape, "graph_pool_handle": lambda: None,
        "Stream": Queue, "current_stream": Queue, "stream": lambda stream: nullcontext(),
    }  # fmt: skip
    for name, stand_in in found.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


@pytest.mark.usefixtures("tapes")
@pytest.mark.parametrize("name", BUILD)
def test_replayed_steps_have_the_bits_of_those_that_decide_everything_anew(name: str) -> None:
    """Losses, gradients, weights, moments and averages: nothing but the numbers in tensors decides a step."""
    stage, plain = (BUILD[name](CPU, recorded) for recorded in (True, False))
    learn = RecordedLoss(function(stage), optimizer(stage).module, CPU)
    stage._learn = learn
    (said, gradients), (expected, its_gradients) = steps(stage), steps(plain)
    for found, wanted in zip([*said, *gradients], [*expected, *its_gradients], strict=True):
        assert_same(found, wanted)
    assert_same(stage.state_tensors(), plain.state_tensors())
    kinds = len(learn._recordings)
    assert kinds == {"world": 4, "ode": 1, "longer ode": 1}.get(name, 2)  # lengths, with cameras and without
    assert kinds < STEPS
    assert_same(dict(stage.finished().state_dict()), dict(plain.finished().state_dict()))


class Elsewhere(TorchDispatchMode):
    """Operations that would make a CPU wait for a GPU, or copy from one to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        devices = {x.device.type for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)}
        if "cpu" in devices or any(word in str(op) for word in ("_local_scalar_dense", "nonzero", "lift_fresh")):
            self.found.append(str(op))
        return result


@pytest.mark.parametrize("name", BUILD)
def test_a_loss_and_its_gradients_stay_on_their_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device without numbers stands for a GPU: there is nothing on it to wait for, and copies to it are seen."""
    stage = BUILD[name](CPU, True)
    given: list[tuple[Any, ...]] = []

    def listen(*example: Any) -> Tensor:
        given.append(example)
        return loss_with_gradients(function(stage), *example)

    stage._learn = listen
    for step in range(4):
        stage.step(step)
    optimizer(stage).module.to("meta")
    if not isinstance(stage, WorldStage):  # whose text encoder is part of that
        (stage.critic.text if isinstance(stage, SelfForcingStage) else stage.text).to("meta")
    monkeypatch.setattr(torch, "autocast", lambda *args, **more: nullcontext())  # there is none on that device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    for name in ("tensor", "as_tensor", "from_numpy"):  # where numbers of the CPU go to another device, unseen
        monkeypatch.setattr(torch, name, None)
    monkeypatch.setattr(Tensor, "new_tensor", None)
    for example in given:
        there = with_tensors(example, iter([x.to("meta") for x in tensors_of(example)]))
        with Elsewhere() as seen:
            loss_with_gradients(function(stage), *there)
        assert seen.found == []


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_nothing_but_tensors_decides_a_call_without_gradients(guidance: float) -> None:
    """Ways of a teacher, and velocities with and without a prompt; for captions of one length and of several."""
    stage = tiny_distil.ode(tiny_distil.recipe())
    plain, repeated = stage.bank.teacher, []

    def record(function: Callable[..., Any], device: torch.device, numbers: int) -> Repeated:
        repeated.append(Repeated(function))
        return repeated[-1]

    score = Score(plain.transformer, plain.text, plain.size, RecordedDenoise(plain.transformer, record))
    clips = tiny_distil.self_forcing(tiny_distil.recipe(f"self_forcing.lengths={LONG}")).banks
    kept = stage.recipe.stream.sigmas
    for number in range(6):
        batch = clips.draw(number)
        if number % 2:
            batch = replace(batch, captions=batch.captions[:1].expand_as(batch.captions))
        numbers = torch.Generator().manual_seed(number)
        noise = torch.randn(batch.latents.shape, generator=numbers)
        found, expected = (s.trajectory(batch, noise, stage.bank.sigmas, kept, guidance) for s in (score, plain))
        assert torch.equal(found, expected)
        index = torch.randint(1000, (len(noise),), generator=numbers)
        noised = add_noise(batch.latents, score_sigma(index, noise.shape[2], 3.0, 0.02, 0.98), noise)
        for empty in (False, True):
            with torch.no_grad():
                found, expected = (s.velocity(noised, batch, empty_prompt=empty) for s in (score, plain))
            assert torch.equal(found, expected)
        with torch.no_grad():
            for weight in plain.transformer.parameters():
                weight.mul_(1.01)
    assert len(repeated) == (4 if guidance > 1 else 2)  # lengths, with guidance for twice as many clips, too


def test_without_a_gpu_or_unless_asked_nothing_is_recorded() -> None:
    model = nn.Linear(2, 1)
    for recorded in (False, True):
        learn = maybe_recorded(lambda x: model(x).sum(), model, CPU, recorded=recorded)
        assert not isinstance(learn, RecordedLoss)
        model.zero_grad()
        loss = learn(torch.ones(3, 2))
        assert not loss.requires_grad
        assert torch.equal(model.weight.grad, torch.full((1, 2), 3.0))  # type: ignore[arg-type]


# ---- on a GPU, or what stands for it


NEEDS_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where something can be recorded."""
    if request.param == "cpu":
        request.getfixturevalue("tapes")
    return torch.device(request.param)


class Towers(nn.Module):
    """Two small parts, of which a call without the second input leaves one without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 1)) for _ in range(2))

    def error(self, x: Tensor, y: Tensor | None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            found = self.first(x) + (0 if y is None else self.second(y))
        return (found.float() - 1).square().mean()


def towers(device: torch.device) -> Towers:
    torch.manual_seed(0)
    return Towers().to(device)


def test_a_recording_follows_weights_and_inputs(device: torch.device) -> None:
    """Of several shapes in turn, while gradients are changed where they are, let go of, and kept until they are used.

    Within rounding of bfloat16, should a library choose other kernels; steps are far larger.
    """
    plain, ours = towers(device), towers(device)
    learn = RecordedLoss(ours.error, ours, device)
    numbers = torch.Generator(device).manual_seed(0)
    for step in range(12):
        x = torch.randn(4 if step % 3 else 7, 16, generator=numbers, device=device)
        y = torch.randn(x.shape, generator=numbers, device=device) if step % 2 else None
        loss, expected = learn(x, y), loss_with_gradients(plain.error, x, y)
        torch.testing.assert_close(loss, expected, rtol=1e-2, atol=1e-3)
        for mine, its in zip(ours.parameters(), plain.parameters(), strict=True):
            assert (mine.grad is None) == (its.grad is None)
            if mine.grad is not None and its.grad is not None:
                torch.testing.assert_close(mine.grad, its.grad, rtol=1e-2, atol=2e-3)
        for model in (ours, plain):
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            with torch.no_grad():
                for p in model.parameters():
                    if p.grad is not None:
                        p -= 0.1 * p.grad
            model.zero_grad(set_to_none=True)
    assert len(learn._recordings) == 4


def test_a_recording_refuses_gradients_that_are_there(device: torch.device) -> None:
    """It would not add to them."""
    model = towers(device)
    learn, x = RecordedLoss(model.error, model, device), torch.ones(2, 16, device=device)
    learn(x, None)
    with pytest.raises(AssertionError):
        learn(x, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", BUILD)
def test_recorded_steps_are_those_that_were_not(name: str) -> None:
    """Losses to 1 %, and weights that differ by no more than a tenth of how far they moved.

    The kernels are the same. Some that the library chooses add up in any order, and AdamW moves a weight whose gradient
    is nothing but rounding as far as any other.
    """
    device = torch.device("cuda")
    stage, plain = (BUILD[name](device, recorded) for recorded in (True, False))
    assert isinstance(stage._learn, RecordedLoss)
    module, its = optimizer(stage).module, optimizer(plain).module
    start = [p.detach().clone() for p in its.parameters()]
    (said, gradients), (expected, its_gradients) = steps(stage), steps(plain)
    assert len(stage._learn._recordings) > (name not in ("ode", "longer ode"))
    assert [g.keys() for g in gradients] == [g.keys() for g in its_gradients]
    word = "critic" if isinstance(stage, SelfForcingStage) else "loss"
    for found, wanted in zip(said, expected, strict=True):
        torch.testing.assert_close(found[word], wanted[word], rtol=1e-2, atol=1e-4)
    moved = torch.stack([(p.detach() - s).norm() for p, s in zip(its.parameters(), start, strict=True)]).norm()
    apart = torch.stack([(p - q).detach().norm() for p, q in zip(module.parameters(), its.parameters(), strict=True)])
    assert float(moved) > 0
    assert float(apart.norm()) < 0.1 * float(moved)
    stage.finished()  # looks at modules, which a recording does not pass
    assert not isinstance(stage._learn, RecordedLoss)
