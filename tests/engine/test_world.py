"""A world gives the frames that its beginning, seed and moves decide, however it is asked, saved or forked."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sana_wm.engine.failure import GenerationError
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.pixels import to_levels
from sana_wm.engine.sidecar import frames_sha256
from sana_wm.engine.stream_plan import plan_stream
from sana_wm.engine.world import World
from sana_wm.errors import InputError
from sana_wm.geometry.actions import rollout
from sana_wm.models.config import ChunkSettings, Leash, StreamSettings
from sana_wm.models.ltx2_vae import Ltx2Codec
from tests.engine.tiny import SETTINGS, picture, tiny_components
from tests.models.test_ltx2_vae import tiny_vae

FAST = StreamSettings(timesteps=(1000.0, 500.0, 0.0))
MOVES = ["w", "dw-10,w-14", "none", "ia"]


def own_pipe(**settings: Any) -> SanaWMPipeline:
    parts = tiny_components(replace(SETTINGS, **settings))
    return SanaWMPipeline(parts.transformer, parts.codec, parts.text_encoder, parts.settings, name="tiny")


def begin(pipe: SanaWMPipeline, **changes: Any) -> World:
    return World.begin(pipe, **{"image": picture(), "prompt": "a street", "fov": 70.0, "plan": FAST} | changes)


def walk(world: World, moves: list[str]) -> str:
    return frames_sha256(np.concatenate([world.step(keys) for keys in moves]))


def test_a_step_is_one_chunk_and_the_first_has_the_picture_in_front(pipe: SanaWMPipeline) -> None:
    world = begin(pipe)
    first, second = world.step("w"), world.step("w")
    assert first.shape == (25, 32, 48, 3)
    assert second.shape == (24, 32, 48, 3)
    assert first.dtype == np.uint8
    assert (world.chunk, world.num_frames) == (2, 49)
    assert torch.equal(world.c2w, rollout("w-48")[-1])
    # The picture is the one a whole clip begins with.
    whole = pipe(picture(), "a street", action="w-8", fov=70.0, num_frames=1)
    assert np.abs(first[0].astype(int) - whole.frames[0]).max() <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"prompt": "a forest"},
        {"fov": 90.0},
        {"translation_speed": 0.1},
        {"image": np.asarray(picture())[:, ::-1].copy()},
        {"plan": replace(FAST, sampler="renoise")},
        {"plan": replace(FAST, guidance_scale=3.0)},
        {"plan": replace(FAST, timesteps=(1000.0, 400.0, 0.0))},
    ],
    ids=str,
)
def test_everything_a_world_begins_with_counts(pipe: SanaWMPipeline, changes: dict[str, Any]) -> None:
    assert walk(begin(pipe, **changes), ["w", "w"]) != walk(begin(pipe), ["w", "w"])


@pytest.mark.parametrize("plan", [replace(FAST, chunks=ChunkSettings()), replace(FAST, chunks=ChunkSettings(window=1))])
def test_the_window_counts_once_there_is_a_past_beyond_it(pipe: SanaWMPipeline, plan: StreamSettings) -> None:
    moves = ["w"] * 4
    assert walk(begin(pipe, plan=plan), moves) != walk(begin(pipe), moves)


def test_moves_count_and_only_from_where_they_are_made(pipe: SanaWMPipeline) -> None:
    one, other = begin(pipe), begin(pipe)
    assert frames_sha256(one.step("w")) == frames_sha256(other.step("w"))
    assert frames_sha256(one.step("w")) != frames_sha256(other.step("s"))


def test_keys_said_in_any_way_and_the_poses_they_lead_to_give_the_same_frames(pipe: SanaWMPipeline) -> None:
    path = rollout("dw-24,a-24")[1:]
    by_poses, by_words, by_strings, by_frames = (begin(pipe) for _ in range(4))
    for number, word in enumerate(("dw", "a")):
        expected = by_poses.step(poses=path[24 * number : 24 * number + 24].numpy())
        assert np.array_equal(by_words.step(word), expected)
        assert np.array_equal(by_strings.step(f"{word}-24"), expected)
        assert np.array_equal(by_frames.step([word] * 24), expected)


def test_keys_go_on_where_poses_ended(pipe: SanaWMPipeline) -> None:
    world = begin(pipe)
    path = rollout("dw-24")[1:]
    world.step(poses=path)
    assert torch.equal(world.c2w, path[-1])
    world.step("none")
    assert torch.equal(world.c2w, path[-1])  # from rest
    world.step("w")
    moved = world.c2w[:3, 3] - path[-1, :3, 3]
    assert float(moved @ path[-1, :3, 2]) == pytest.approx(24 * 0.025, abs=1e-3)


def test_a_fork_goes_on_as_the_world_would_and_leaves_it_alone(pipe: SanaWMPipeline) -> None:
    world = begin(pipe)
    world.step("w")
    fork = world.fork()
    fork.step("s")
    again = world.fork()
    assert walk(world, MOVES) == walk(again, MOVES)


LEASHED = replace(FAST, leash=Leash(distance=1.0, frames=7))


def test_a_leash_counts_from_where_it_is_tight(pipe: SanaWMPipeline) -> None:
    free, leashed = begin(pipe), begin(pipe, plan=replace(LEASHED, leash=Leash(distance=1.0, frames=1000)))
    assert walk(free, ["w", "w"]) == walk(leashed, ["w", "w"])  # 0.6 a step
    assert leashed.state.origin == (0.0, 0.0, 0.0)
    assert walk(free, ["none"]) != walk(leashed, ["none"])
    assert leashed.state.origin[2] == pytest.approx(0.2, abs=1e-3)
    aged = begin(pipe, plan=replace(LEASHED, leash=Leash(distance=1e6, frames=7)))
    assert walk(begin(pipe), MOVES) != walk(aged, MOVES)


@pytest.mark.parametrize("speed", [0.025, 2.0])
def test_cameras_on_a_leash_are_told_from_near_however_far_they_go(pipe: SanaWMPipeline, speed: float) -> None:
    world = begin(pipe, plan=LEASHED, translation_speed=speed)
    for _ in range(6):
        world.step("w")
        assert world.state.finished is not None
        told = world.state.finished.camera_conditions[0, :, 3:12:4]
        assert float(told.norm(dim=-1).max()) < 1.0 + 24 * speed + 1e-3
    assert float(world.c2w[2, 3]) == pytest.approx(6 * 24 * speed, rel=0.01)  # users see where it is


@pytest.mark.parametrize("after", [2, 5])
def test_a_world_on_a_leash_is_forked_and_saved_like_any_other(
    pipe: SanaWMPipeline, tmp_path: Path, after: int
) -> None:
    world = begin(pipe, plan=LEASHED)
    for _ in range(after):
        world.step("w")
    fork = world.fork()
    fork.remember()
    loaded = World.load(own_pipe(), world.save(tmp_path / "w.safetensors"))
    remembered = World.load(own_pipe(), fork.save(tmp_path / "r.safetensors"))
    assert len({walk(each, MOVES) for each in (world, fork, loaded, remembered)}) == 1
    assert world.state.origin != (0.0, 0.0, 0.0)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_saved_world_goes_on_with_the_same_frames(pipe: SanaWMPipeline, tmp_path: Path, after: int) -> None:
    world = begin(pipe, plan=replace(FAST, sampler="renoise", guidance_scale=2.0), negative_prompt="fog")
    for keys in MOVES[:after]:
        world.step(keys)
    path = world.save(tmp_path / "deep" / "w.safetensors")
    assert [file.name for file in path.parent.iterdir()] == ["w.safetensors"]
    assert walk(World.load(own_pipe(), path), MOVES) == walk(world, MOVES)


def test_a_world_has_one_size_however_long_it_lives(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    world, held, files = begin(pipe), set(), set()
    for chunk in range(6):
        world.step("w")
        if chunk > 1:  # from then on the window is full
            storages = [x.untyped_storage() for x in world.state.tensors().values()]
            held.add((world.state.nbytes, sum({x.data_ptr(): x.nbytes() for x in storages}.values())))
            world.save(tmp_path / "w.safetensors")
            with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
                files.add(sum(file.get_tensor(name).nbytes for name in file.keys()))  # noqa: SIM118
    assert len(held) == len(files) == 1
    ((nbytes, kept),) = held
    assert kept <= nbytes + 2048  # and no tensor keeps a larger one alive, but for the rows of intrinsics


def test_a_step_leaves_no_past_behind_that_only_the_garbage_collector_finds(pipe: SanaWMPipeline) -> None:
    """On a GPU what waits for it would be memory that grows with every chunk."""

    def held() -> int:
        return sum(issubclass(type(x), Tensor) for x in gc.get_objects())

    world = begin(pipe)
    gc.collect()
    gc.disable()
    try:
        counts = [held() for _ in range(6) if world.step("w") is not None]
    finally:
        gc.enable()
    assert len(set(counts[3:])) == 1  # from then on the window is full


def test_frames_are_there_before_their_chunk_is_remembered(pipe: SanaWMPipeline) -> None:
    world = begin(pipe)
    for chunk in range(3):
        world.step("w")
        past = world.state.history
        assert (0 if past is None else past.chunks) == chunk
        assert world.state.finished is not None


def test_when_a_chunk_is_remembered_changes_no_frame(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    straight = walk(begin(pipe), MOVES)
    world, frames = begin(pipe), []
    for number, keys in enumerate(MOVES):
        frames.append(world.step(keys))
        world.remember()
        assert world.state.finished is None
        world.remember()  # there is nothing left to do
        assert world.state.history is not None
        assert world.state.history.chunks == number + 1
        world = World.load(pipe, world.save(tmp_path / "w.safetensors")).fork()
    assert frames_sha256(np.concatenate(frames)) == straight


def test_noise_is_that_of_the_seed_and_the_chunk_alone(pipe: SanaWMPipeline) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = walk(begin(pipe, seed=5), ["w", "w"])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert walk(begin(pipe, seed=5), ["w", "w"]) == first


@pytest.mark.parametrize("stage", ["denoise", "decode"])
@pytest.mark.parametrize("chunk", [0, 1])
def test_a_stage_that_fails_is_named_and_the_world_stays_as_it_was(stage: str, chunk: int) -> None:
    pipe = own_pipe()
    world, expected = begin(pipe), begin(pipe)
    for _ in range(chunk):
        world.step("w")
        expected.step("w")
    part = {"denoise": pipe.transformer.final_layer, "decode": pipe.codec.decoder}[stage]
    weight = next(part.parameters())
    good = weight.detach().clone()
    weight.data.fill_(float("nan"))
    with pytest.raises(GenerationError, match=f"stage {stage}, chunk {chunk}: "):
        world.step("w")
    weight.data.copy_(good)
    assert walk(world, ["w", "a"]) == walk(expected, ["w", "a"])


def test_a_picture_that_cannot_be_encoded_is_a_failure_of_that_stage() -> None:
    pipe = own_pipe()
    next(pipe.codec.encoder.parameters()).data.fill_(float("nan"))
    with pytest.raises(GenerationError, match="stage encode"):
        begin(pipe)


def test_a_step_can_be_interrupted_and_tried_again(pipe: SanaWMPipeline) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("decode", 24):
            raise KeyboardInterrupt

    world = begin(pipe)
    world.step("w")
    with pytest.raises(KeyboardInterrupt):
        world.step("d", progress=interrupt)
    expected = begin(pipe)
    expected.step("w")
    assert walk(world, ["a"]) == walk(expected, ["a"])


def test_a_first_chunk_of_one_colour_is_refused_unless_the_picture_is() -> None:
    pipe = own_pipe()
    with torch.no_grad():
        for parameter in pipe.codec.decoder.conv_out.parameters():
            parameter.zero_()
    with pytest.raises(GenerationError, match="stage decode, chunk 0: all frames are of one colour"):
        begin(pipe).step("w")
    assert begin(pipe, image=np.full((32, 48, 3), 128, np.uint8)).step("w").std() == 0


@pytest.mark.parametrize(
    ("move", "words"),
    [
        ({}, "neither is given"),
        ({"keys": "w", "poses": torch.eye(4).expand(24, 4, 4)}, "both are given"),
        ({"keys": "w-23"}, "24 new frames; 23 keys"),
        ({"keys": []}, "24 new frames; 0 keys"),
        ({"keys": "q"}, "unknown keys 'q'"),
        ({"poses": torch.eye(4).expand(25, 4, 4)}, "24 new frames; 25 poses"),
        ({"poses": torch.zeros(24, 4, 4)}, "poses, frame 0"),
    ],
    ids=str,
)
def test_moves_that_cannot_be_made_are_refused(pipe: SanaWMPipeline, move: dict[str, Any], words: str) -> None:
    world = begin(pipe)
    with pytest.raises(InputError, match=words):
        world.step(**move)
    assert world.chunk == 0


def test_poses_that_leap_away_are_told_of(pipe: SanaWMPipeline, caplog: pytest.LogCaptureFixture) -> None:
    world = begin(pipe, plan=replace(FAST, timesteps=(1000.0, 0.0)))
    path = rollout("w-48", translation_speed=0.2)
    world.step(poses=path[1:25])
    assert not caplog.records
    world.step(poses=path[1:25])  # a path that begins again at the start, not where the camera is
    assert "moves up to 4.6 units" in caplog.text


def test_a_lens_that_changes_is_refused(pipe: SanaWMPipeline) -> None:
    lens = np.array([50.0, 50, 30, 16])
    for many in (np.stack([lens, lens]), np.eye(3)[None].repeat(25, 0)):
        with pytest.raises(InputError, match="one lens"):
            begin(pipe, intrinsics=many, fov=None)
    same = [begin(pipe, intrinsics=one, fov=None).state.intrinsics.tolist() for one in (lens, lens[None])]
    assert same[0] == same[1]


def ltx2_pipe(**options: Any) -> SanaWMPipeline:
    parts = tiny_components(replace(SETTINGS, height=64, width=96))
    codec = Ltx2Codec(tiny_vae(**options)).eval()
    return SanaWMPipeline(parts.transformer, codec, parts.text_encoder, parts.settings)


def test_a_world_is_seen_through_the_large_models_codec_as_well(tmp_path: Path) -> None:
    pipe = ltx2_pipe(decoder_causal=True)
    world, made = begin(pipe), []
    decode = world.stages.codec.decode_next
    latents: list[torch.Tensor] = []
    pipe.codec.decode_next = lambda z, tails: (latents.append(z), decode(z, tails))[1]  # type: ignore[method-assign]
    for keys in ("w", "d"):
        made.append(world.step(keys))
    world = World.load(pipe, world.save(tmp_path / "w.safetensors"))
    made.append(world.step("a"))
    assert [frames.shape for frames in made] == [(25, 64, 96, 3), (24, 64, 96, 3), (24, 64, 96, 3)]
    whole = to_levels(pipe.codec.decode(torch.cat(latents, 2))[0]).permute(1, 2, 3, 0).numpy()
    assert np.abs(np.concatenate(made).astype(int) - whole).max() <= 1


def test_a_codec_that_looks_ahead_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="looks at later frames"):
        begin(ltx2_pipe(decoder_causal=False))


def test_a_closed_world_does_not_go_on(pipe: SanaWMPipeline) -> None:
    with begin(pipe) as world:
        world.step("w")
    with pytest.raises(InputError, match="closed"):
        world.step("w")


def changed(path: Path, change: Any) -> Path:
    """A copy of a saved world whose metadata and tensors went through `change`."""
    with safe_open(path, framework="pt") as file:
        content = json.loads(file.metadata()["world"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(content, tensors)
    save_file(tensors, path.with_name("changed.safetensors"), metadata={"world": json.dumps(content)})
    return path.with_name("changed.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c, t: c.update(format="x"), "no saved world"),
        (lambda c, t: c.update(version=9), "version 9"),
        (lambda c, t: c["model"].update(weights="0"), "another model: its weights"),
        (lambda c, t: c["model"]["transformer"].update(depth=9), "another model: its transformer"),
        (lambda c, t: c["model"].update({"number format": "bfloat16"}), "its number format"),
        (lambda c, t: c["plan"].update(timesteps=[5]), "damaged"),
        (lambda c, t: c["plan"].update(colour="red"), "damaged"),
        (lambda c, t: c["state"].pop("motion"), "damaged"),
        (lambda c, t: c["state"].update(chunk=0), "damaged"),
        (lambda c, t: t.pop("tails.0"), "damaged"),
        (lambda c, t: t.pop("features"), "damaged"),
        (lambda c, t: t.pop("history.0.gdn.state"), "damaged"),
        (lambda c, t: t.pop("finished.latents"), "damaged"),
        (lambda c, t: [t.pop(name) for name in list(t) if name.startswith("finished.")], "damaged"),
        (lambda c, t: [t.pop(name) for name in list(t) if name.startswith("history.")], "damaged"),
    ],
)
def test_a_file_that_is_not_this_models_world_is_refused(
    pipe: SanaWMPipeline, tmp_path: Path, change: Any, words: str
) -> None:
    world = begin(pipe)
    walk(world, ["w", "w"])
    path = world.save(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=words):
        World.load(pipe, changed(path, change))


def test_a_file_that_was_cut_or_is_no_file_is_refused(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    path = begin(pipe).save(tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"w\.safetensors' cannot be read"):
        World.load(pipe, path)
    with pytest.raises(InputError, match="missing"):
        World.load(pipe, tmp_path / "missing")
    with pytest.raises(InputError, match="cannot be written"):
        begin(pipe).save(path / "below a file")


def test_a_file_that_is_being_replaced_stays_whole_if_writing_fails(
    pipe: SanaWMPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = begin(pipe)
    path = world.save(tmp_path / "w.safetensors")
    before = path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    world.step("w")
    monkeypatch.setattr("sana_wm.engine.world_file.os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        world.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_plan_is_the_models_own_apart_from_what_is_asked_for() -> None:
    own = replace(SETTINGS, stream=replace(FAST, chunks=ChunkSettings(window=3)))
    assert plan_stream(own) == own.stream
    assert plan_stream(own, guidance_scale=2.0) == replace(own.stream, guidance_scale=2.0)
    steps = plan_stream(own, num_inference_steps=3).timesteps
    assert len(steps) == 4
    assert plan_stream(own, 3, flow_shift=8.0).timesteps[1] > steps[1]
    with pytest.raises(InputError, match="flow_shift is 8"):
        plan_stream(own, flow_shift=8.0)
    assert plan_stream(replace(own, stream=None)) == StreamSettings()
    assert len(plan_stream(replace(own, stream=replace(FAST, timesteps=()))).timesteps) == own.num_inference_steps + 1
    with pytest.raises(InputError, match="timesteps"):
        replace(FAST, timesteps=(1000.0,))
    with pytest.raises(InputError, match="'first_chunk_plus_one'"):
        plan_stream(replace(own, stream=replace(FAST, chunks=ChunkSettings(strategy="uniform"))))
