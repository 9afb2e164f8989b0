"""Worlds that go on from step to step: a student sees its own past of any length, and scores see pieces of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.geometry.poses import relative_to_first
from sana_wm.training.bank import LatentBatch
from sana_wm.training.distill_recipe import DistillRecipe, LastingRecipe
from sana_wm.training.lasting import Group, LastingWorlds
from sana_wm.training.progress import Stop, run_stage
from sana_wm.training.self_forcing import CRITIC, GENERATOR, SelfForcingStage
from tests.training import tiny_distil
from tests.training.tiny import log, stopped_after

LASTING = "{share: 0.7, worlds: 2, groups: 2, chunks: 2, before: 1, longest: 9, longest_at_first: 3, growing_steps: 10}"
"""Of the tiny recipe, whose chunks are one latent."""


def recipe(*overrides: str) -> DistillRecipe:
    return tiny_distil.recipe(f"self_forcing.lasting={LASTING}", *overrides)


@pytest.fixture
def stage() -> SelfForcingStage:
    return tiny_distil.self_forcing(recipe())


def worlds_of(stage: SelfForcingStage) -> LastingWorlds:
    assert stage.worlds is not None
    return stage.worlds


def group(stage: SelfForcingStage) -> Group:
    """Worlds that have just begun, and that may become as old as any."""
    worlds = worlds_of(stage)
    found = next(x for step in range(100) if (x := worlds.draw(step, CRITIC)) is not None)
    path = worlds._path(8 * worlds.plan.longest, torch.tensor([True, False]), torch.Generator())
    return Group(found.first, path, worlds.plan.longest)


def go_on(stage: SelfForcingStage, group: Group, steps: int) -> list[LatentBatch]:
    with torch.no_grad():
        return [stage._go_on(group, n, CRITIC, torch.Generator().manual_seed(n)).batch for n in range(steps)]


def test_what_scores_see_is_a_piece_behind_the_first_stretch(stage: SelfForcingStage) -> None:
    """The first begins with the frame that is given; later ones with what was made before."""
    worlds = group(stage)
    first, second, third = go_on(stage, worlds, 3)
    assert [x.latents.shape[2] for x in (first, second, third)] == [1 + 2, 1 + 2, 1 + 2]
    assert [x.is_piece for x in (first, second, third)] == [False, True, True]
    assert torch.equal(first.latents[:, :, :1], worlds.first.latents)
    assert torch.equal(second.latents[:, :, 0], first.latents[:, :, -1])
    assert torch.equal(third.latents[:, :, 0], second.latents[:, :, -1])
    assert worlds.history is not None
    assert (worlds.history.frames, worlds.history.chunks, worlds.poses) == (1 + 6, 6, 8 * 6)


def test_cameras_of_a_piece_are_those_of_its_part_of_the_path(stage: SelfForcingStage) -> None:
    worlds = group(stage)
    for number, seen in enumerate(go_on(stage, worlds, 3)):
        behind = 0 if number == 0 else 8 * (2 * number - 1)  # poses before the piece
        expected = relative_to_first(worlds.path[:, behind : 8 * 2 * (number + 1) + 1])
        assert seen.c2w.shape == expected.shape
        torch.testing.assert_close(seen.c2w, expected, atol=1e-5, rtol=0)
        assert seen.intrinsics.shape == (*seen.c2w.shape[:2], 4)


def test_going_on_is_one_long_video(stage: SelfForcingStage) -> None:
    """What comes of three stretches is what comes of one that is as long."""
    worlds = group(stage)
    together = Group(worlds.first, worlds.path, worlds.until)
    noise = torch.randn(2, worlds.first.latents.shape[1], 6, *worlds.first.latents.shape[3:])

    def made(parts: list[Tensor], worlds: Group) -> list[Tensor]:
        found = []
        for part in parts:
            clip = worlds.next(part.shape[2])
            with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
                given = part if worlds.history else torch.cat([worlds.first.latents, part], 2)
                patch.setattr("sana_wm.training.self_forcing.torch.randn", lambda *a, given=given, **k: given.clone())
                out, history = stage._make(clip, 0, CRITIC, torch.Generator(), history=worlds.history)
            worlds.go_on(out, clip, history, 1)
            found.append(out)
        return found

    with pytest.MonkeyPatch.context() as patch:  # one step a chunk: nothing is drawn between two
        patch.setattr("random.Random.randrange", lambda *a: 0)
        one = made([noise], together)[0]
        several = torch.cat(made(list(noise.split(2, 2)), worlds), 2)
    torch.testing.assert_close(several, one, atol=1e-5, rtol=0)
    assert worlds.history is not None
    assert together.history is not None
    ours, theirs = worlds.history.tensors(), together.history.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(x, theirs[name], atol=1e-5) for name, x in ours.items())


def test_only_what_a_step_adds_moves_the_student(stage: SelfForcingStage, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = group(stage)
    go_on(stage, worlds, 1)
    monkeypatch.setattr(worlds_of(stage), "draw", lambda step, whose: worlds)
    shown = stage._show(0, GENERATOR)
    (gradient,) = torch.autograd.grad(shown.batch.latents.square().sum(), shown.batch.latents)
    assert shown.batch.latents.requires_grad
    assert gradient.shape[2] == 3
    assert shown.span == slice(0, None)  # of which matching leaves out the first
    assert shown.truth is None
    assert worlds.before is not None
    assert not worlds.before.latents.requires_grad
    assert worlds.history is not None
    assert not any(x.requires_grad for x in worlds.history.tensors().values())


def test_no_frame_of_a_piece_is_given_to_the_scores(stage: SelfForcingStage) -> None:
    worlds = group(stage)
    with torch.no_grad():
        shown = [stage._go_on(worlds, n, CRITIC, torch.Generator().manual_seed(n)) for n in range(2)]
    first, later = (stage._noised(x)[1] for x in shown)
    assert not first[:, 0].any()
    assert (first[:, 1:] > 0).all()
    assert (later > 0).all()


def test_steps_are_shared_out_and_groups_end_in_time(stage: SelfForcingStage) -> None:
    """Each group begins anew before it is older than it may be, and the limit rises."""
    worlds = worlds_of(stage)
    drawn = [worlds.draw(step, whose) for step in range(300) for whose in (CRITIC, GENERATOR)]
    assert 0.6 < sum(x is not None for x in drawn) / len(drawn) < 0.8
    assert [worlds.limit(step) for step in (0, 5, 10, 1000)] == [3, 6, 9, 9]

    begun: list[Group] = []  # kept, so that each has an identity of its own
    ages: dict[int, list[int]] = {}
    young = tiny_distil.self_forcing(recipe())
    for step in range(60):
        found = worlds_of(young).draw(step, CRITIC)
        if found is not None:
            go_on(young, found, 1)
            assert 2 <= found.chunks <= found.until <= worlds.limit(60)
            begun.append(found)
            ages.setdefault(id(found), []).append(found.chunks)
    assert len({len(its) for its in ages.values()}) > 1  # some end sooner than others
    assert all(its == [2 * n for n in range(1, len(its) + 1)] for its in ages.values())


def test_worlds_follow_from_the_seed_and_the_step() -> None:
    ours, theirs = (tiny_distil.self_forcing(recipe()) for _ in range(2))
    for step in range(8):
        a, b = (worlds_of(s).draw(step, CRITIC) for s in (ours, theirs))
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert torch.equal(a.path, b.path)
            assert torch.equal(a.first.latents, b.first.latents)
            assert a.until == b.until


def test_level_clips_go_on_level_and_others_look_up_and_down(stage: SelfForcingStage) -> None:
    path = worlds_of(stage)._path(8 * 9, torch.tensor([False, True] * 16), torch.Generator().manual_seed(0))
    level, tilted = path[::2], path[1::2]
    torch.testing.assert_close(level[..., 1, 1], torch.ones_like(level[..., 1, 1]))
    assert float(tilted[..., 1, 1].min()) < 0.9999
    torch.testing.assert_close(path[:, 0], torch.eye(4).expand(32, 4, 4))


def test_a_stopped_run_goes_on_with_new_worlds(tmp_path: Path) -> None:
    """Worlds are no part of a checkpoint; everything else is, and both halves are logged."""
    plan: dict[str, Any] = {"save_every": 2, "log_every": 1}
    stage, stop = stopped_after(tiny_distil.self_forcing(recipe()), 3)
    assert not run_stage(stage, tmp_path, stop=stop, **plan)
    assert run_stage(tiny_distil.self_forcing(recipe()), tmp_path, stop=Stop(), **plan)
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]
    last = tiny_distil.self_forcing(recipe())
    assert run_stage(last, tmp_path, stop=Stop(), **plan)  # there is nothing left to do
    assert last.finished().training is False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"share": 1.0}, "lasting.share is 1.0"),
        ({"worlds": 0}, "at least 1"),
        ({"before": 5}, "each must be at least"),
        ({"longest": 3}, "each must be at least"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(change: dict[str, Any], said: str) -> None:
    good = {"share": 0.5, "worlds": 2, "groups": 2, "longest": 9, "longest_at_first": 4, "growing_steps": 5}
    LastingRecipe(**good)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        LastingRecipe(**{**good, **change})  # type: ignore[arg-type]


def test_lasting_worlds_need_chunks_of_a_stream() -> None:
    chunks = "{size: 1, strategy: uniform, window: 2, sink: true}"
    with pytest.raises(InputError, match="first_chunk_plus_one"):
        recipe(f"pipeline.stream.chunks={chunks}")


def test_a_student_is_never_asked_for_a_piece() -> None:
    with pytest.raises(InputError, match="always given a first frame"):
        recipe("self_forcing.lengths=[{frames: 16, bank: 17, batch: 2, share: 1.0, piece: true}]")


def test_worlds_are_dealt_out_to_peers() -> None:
    shared = recipe().shared_by(2).self_forcing
    assert shared is not None
    assert shared.lasting is not None
    assert shared.lasting.worlds == 1
