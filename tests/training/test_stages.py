"""Both stages of the recipe: they learn, and a run that was stopped or rebuilt is the run that was not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.data.recorded import RecordedClip
from sana_wm.engine.pixels import to_video
from sana_wm.errors import InputError
from sana_wm.models.config import ChunkSettings
from sana_wm.models.context import BlockContext
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import Visibility
from sana_wm.training.autoencoder import AutoencoderStage, reconstruction_loss
from sana_wm.training.progress import Stop, run_stage
from sana_wm.training.recipe import Recipe
from sana_wm.training.sources import ClipSource
from sana_wm.training.world import WorldStage
from tests.training import tiny
from tests.training.tiny import assert_same, log, stopped_after

AnyStage = AutoencoderStage | WorldStage
Trained = dict[str, tuple[AnyStage, Path]]



def causal(recipe: Recipe) -> WorldStage:
    """The world stage that learns to see in chunks of one latent, after the first two."""
    return tiny.world(replace(recipe, world=replace(recipe.world, chunks=ChunkSettings(1))))


BUILD: dict[str, Callable[[Recipe], AnyStage]] = {
    "autoencoder": tiny.autoencoder, "world": tiny.world, "causal": causal
}  # fmt: skip
PLAN: dict[str, Any] = {"save_every": 2, "log_every": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Both stages trained without a break."""
    done: Trained = {}
    for name, build in BUILD.items():
        stage, directory = build(tiny.recipe()), tmp_path_factory.mktemp(name)
        assert run_stage(stage, directory, stop=Stop(), **PLAN)
        done[name] = (stage, directory)
    return done


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("stops", [[1], [2, 3], [4]], ids=str)
def test_a_stopped_run_ends_as_an_uninterrupted_one(
    name: str, stops: list[int], whole: Trained, tmp_path: Path
) -> None:
    """Same losses, same weights, same moments, same average, bit by bit; at a checkpoint or between two."""
    expected, its_log = whole[name]
    for at in stops:
        stage, stop = stopped_after(BUILD[name](tiny.recipe()), at)
        assert not run_stage(stage, tmp_path, stop=stop, **PLAN)
    last = BUILD[name](tiny.recipe())
    assert run_stage(last, tmp_path, stop=Stop(), **PLAN)
    assert log(tmp_path) == log(its_log)
    assert_same(last.state_tensors(), expected.state_tensors())
    if isinstance(last, WorldStage) and isinstance(expected, WorldStage):
        for frames, bank in expected.banks.items():
            assert last.banks[frames].written in (bank.written, 0)
            if last.banks[frames].written:
                ours, theirs = (b.draw(8, frames, torch.Generator().manual_seed(0)) for b in (last.banks[frames], bank))
                assert torch.equal(ours.latents, theirs.latents)
                assert torch.equal(ours.captions, theirs.captions)


def test_the_run_visits_all_of_its_clip_lengths(whole: Trained) -> None:
    """So the comparison above covers the bank that is renewed and the one that is not."""
    frames = [line["frames"] for line in log(whole["world"][1])]
    assert frames[0] == 9
    assert set(frames) == {9, 17, 25}


@pytest.mark.parametrize("name", BUILD)
def test_every_weight_and_its_average_moves(name: str, whole: Trained) -> None:
    trained, start = whole[name][0].state_tensors(), BUILD[name](tiny.recipe()).state_tensors()
    still = {key for key, value in start.items() if torch.equal(trained[key], value)}
    assert still == {key for key in still if key.endswith(("latents_mean", "latents_std", "y_embedding"))}


@pytest.mark.parametrize("name", BUILD)
def test_the_seed_decides_the_start(name: str) -> None:
    torch.manual_seed(1)
    first = BUILD[name](tiny.recipe()).state_tensors()
    torch.manual_seed(2)
    assert_same(BUILD[name](tiny.recipe()).state_tensors(), first)
    other = BUILD[name](tiny.recipe("seed=6")).state_tensors()
    assert any(not torch.equal(other[key], value) for key, value in first.items())


def test_a_checkpoint_of_another_model_is_refused(whole: Trained) -> None:
    wider = tiny.recipe("world.model.mlp_ratio=3.0")
    with pytest.raises(InputError, match="does not belong to this recipe"):
        run_stage(tiny.world(wider), whole["world"][1], stop=Stop(), **PLAN)


def test_the_reconstruction_loss_has_its_three_parts() -> None:
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 3, 2, 4, 4, generator=g)
    assert reconstruction_loss(truth, truth, 1.0, 1.0) == 0
    brighter = reconstruction_loss(truth + 0.5, truth, 10.0, 2.0)
    torch.testing.assert_close(brighter, torch.tensor(0.5 + 2 * 0.25))  # no edge has moved
    striped = torch.zeros(1, 1, 1, 2, 4)
    striped[..., 1::2] = 1
    loss = reconstruction_loss(striped, torch.zeros_like(striped), 10.0, 0.0)
    torch.testing.assert_close(loss, torch.tensor(0.5 + 10 * 1.0))


def one_clip(recipe: Recipe) -> ClipSource:
    """A source whose every batch is the same clip."""
    source = tiny.source(recipe)
    clip = next(source.batches("autoencoder", 0, 1, 9))
    recorded = RecordedClip(clip.frames[0].numpy(), clip.c2w[0], clip.intrinsics[0], clip.captions[0], "the clip")
    source.recorded, source.recorded_share = {9: [recorded]}, 1.0
    return source


def test_the_autoencoder_learns_one_clip() -> None:
    recipe = tiny.recipe("autoencoder.optimizer.steps=40", "autoencoder.optimizer.lr=3e-3")
    stage = AutoencoderStage(recipe.autoencoder, one_clip(recipe), seed=0, device=tiny.CPU)
    psnr = [float(stage.step(step)["psnr"]) for step in range(40)]
    assert psnr[-1] > psnr[0] + 5


def test_a_finished_autoencoder_has_normalised_latents() -> None:
    stage = tiny.autoencoder(tiny.recipe())
    stage.step(0)
    codec = stage.finished()
    assert not codec.training
    stream = stage.source.batches("statistics", 0, 1, 9)
    latents = torch.cat([codec.encode(to_video(next(stream).frames)) for _ in range(12)])
    flat = latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(flat.std(1), torch.ones(4), rtol=1e-3, atol=1e-3)
    for name, parameter in codec.named_parameters():
        assert torch.equal(parameter, stage.optimizer.ema.average[name])


def test_the_statistics_of_the_latents_are_in_the_last_checkpoint(whole: Trained, tmp_path: Path) -> None:
    """So a finished stage needs no clips; before its last step there are none, and another last step has others."""
    trained, directory = whole["autoencoder"]
    state = trained.state_tensors()
    assert state["statistics_step"] == 5
    again = tiny.autoencoder(tiny.recipe())
    again.source.close()
    again.source = None  # type: ignore[assignment]
    assert run_stage(again, directory, stop=Stop(), **PLAN)
    codec = again.finished()
    for name in ("latents_mean", "latents_std"):
        assert torch.equal(codec.get_buffer(name), state[f"model.{name}"])

    early, stop = stopped_after(tiny.autoencoder(tiny.recipe()), 4)
    assert not run_stage(early, tmp_path, stop=stop, **PLAN)
    assert early.state_tensors()["statistics_step"] == -1
    shorter = tiny.autoencoder(tiny.recipe("autoencoder.optimizer.steps=4"))
    assert run_stage(shorter, tmp_path, stop=Stop(), **PLAN)
    assert not torch.equal(shorter.finished().latents_std, torch.ones(4))


def test_a_checkpoint_from_before_it_held_the_statistics_goes_on() -> None:
    stage = tiny.autoencoder(tiny.recipe())
    state = {name: value for name, value in stage.state_tensors().items() if name != "statistics_step"}
    stage.load_state_tensors(state, 5)
    assert not torch.equal(stage.finished().latents_std, torch.ones(4))


def test_a_finished_world_model_is_the_average_and_knows_the_empty_prompt(whole: Trained) -> None:
    stage = tiny.world(tiny.recipe())
    stage.load_state_tensors(whole["world"][0].state_tensors(), 6)
    model = stage.finished()
    assert not model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, stage.optimizer.ema.average[name])
    features, _ = model.text.encode([""])
    assert torch.equal(model.transformer.y_embedder.y_embedding, features[0, 0])


def test_every_step_draws_noise_of_its_own() -> None:
    """The same weights and clips under other noise: another loss; the same step again: the same loss."""
    recipe = tiny.recipe("autoencoder.optimizer.lr=0.0", "world.camera_dropout=0.0")
    codec = tiny.autoencoder(recipe)
    codec.source = one_clip(recipe)
    losses = [float(codec.step(step)["loss"]) for step in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]

    world = tiny.world(recipe)
    world.banks.fill(world.banks[recipe.world.lengths[0].bank], 0)
    batch = world.banks[17].draw(3, 9, torch.Generator().manual_seed(0))
    with torch.no_grad():
        losses = [float(world._loss(batch, step)) for step in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


def test_a_causal_step_sees_no_later_chunk_and_noises_each_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = causal(tiny.recipe("world.camera_dropout=0.0", "world.caption_dropout=0.0"))
    bank = stage.banks[25]
    stage.banks.fill(bank, 0)
    batch = bank.draw(2, 25, torch.Generator().manual_seed(0))
    asked: list[tuple[Tensor, Tensor, Visibility]] = []
    denoise = SanaWMTransformer.denoise

    def listen(self: SanaWMTransformer, x: Tensor, timestep: Tensor, context: BlockContext, *rest: Any) -> Tensor:
        asked.append((x, timestep, context.visibility))
        return denoise(self, x, timestep, context, *rest)

    monkeypatch.setattr(SanaWMTransformer, "denoise", listen)
    with torch.no_grad():
        losses = [stage._loss(batch, step) for step in range(8)]
    assert all(torch.isfinite(loss) for loss in losses)
    assert {sees.starts for _, _, sees in asked} == {(0, 2, 3)}
    timesteps = torch.cat([timestep[:, 0] for _, timestep, _ in asked])
    assert not timesteps[:, 0].any()
    assert len(timesteps[:, 1:].unique()) > 20
    assert bool((timesteps.diff(dim=1) >= 0).all())


def test_dropping_every_caption_leaves_the_empty_prompt() -> None:
    """Whatever the captions are, the loss is that of clips without one."""
    stage = tiny.world(tiny.recipe("world.caption_dropout=1.0"))
    stage.banks.fill(stage.banks[stage.recipe.lengths[0].bank], 0)
    batch = stage.banks[17].draw(3, 9, torch.Generator().manual_seed(0))
    empty = stage.model.text.tokenize([""]).repeat(3, 1)
    assert not torch.equal(batch.captions, empty)
    with torch.no_grad():
        assert torch.equal(stage._loss(batch, 0), stage._loss(replace(batch, captions=empty), 0))


def test_the_bank_may_be_renewed_more_rarely(tmp_path: Path) -> None:
    """By as many clips as ever, every few steps; a run that begins between two renewals finds the same bank."""
    recipe = tiny.recipe("world.bank_every=2", "world.lengths=[{frames: 9, bank: 17, batch: 2, share: 1.0}]")
    stage = tiny.world(recipe)
    written = []
    for step in range(4):
        stage.step(step)
        written.append(stage.banks[17].written)
    assert written == [4, 4, 6, 6]
    late = tiny.world(recipe)
    late.banks.fill(late.banks[recipe.world.lengths[0].bank], 3)
    ours, theirs = (s.banks[17].draw(8, 17, torch.Generator().manual_seed(0)) for s in (late, stage))
    assert torch.equal(ours.latents, theirs.latents)


def test_dropping_cameras_leaves_none() -> None:
    stage = tiny.world(tiny.recipe("world.camera_dropout=1.0"))
    stage.banks.fill(stage.banks[stage.recipe.lengths[0].bank], 0)
    batch = stage.banks[17].draw(3, 9, torch.Generator().manual_seed(0))
    stage._loss(batch, 0).backward()
    used = {name for name, p in stage.model.named_parameters() if p.grad is not None}
    assert used
    assert not any("_cam" in name or "plucker" in name for name in used)


def test_a_growing_head_is_quietened_while_the_run_goes_on() -> None:
    stage = tiny.world(tiny.recipe("world.steady_every=2"))
    gains = stage.model.transformer.blocks[0].get_parameter("attn.k_norm.weight")
    with torch.no_grad():
        gains.view(2, -1)[1] *= 30
    stage.step(0)
    stage.step(1)
    before = gains.detach().clone().view(2, -1)
    stage.step(2)
    after = gains.detach().view(2, -1)
    assert after[1].norm() < 0.5 * before[1].norm()
    torch.testing.assert_close(after[0], before[0], rtol=0.1, atol=0.1)  # the other head only took its step
