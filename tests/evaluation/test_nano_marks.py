"""The marks: numbers that must come out as they do for videos and paths whose answer is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sana_wm.engine.sampling_plan import SamplingPlan
from sana_wm.errors import InputError
from sana_wm.evaluation.clip_measures import PSNR_CAP, ClipVideos, border_jump, compare
from sana_wm.evaluation.generate import generate
from sana_wm.evaluation.held_out import HeldOut, held_out, mirrored_frames, mirrored_path
from sana_wm.evaluation.marks import aggregate, judge, markdown
from sana_wm.evaluation.minute import describe_long
from sana_wm.evaluation.nano_marks import measure, shuffled_order
from sana_wm.geometry.actions import rollout
from sana_wm.geometry.poses import check_poses, relative_to_first
from sana_wm.worlds.procedural import Renderer
from tests.engine.tiny import tiny_components

CPU = torch.device("cpu")
ALL = ("ae", "follow", "control", "text")


@pytest.fixture(scope="module")
def clips() -> HeldOut:
    return held_out("test", {"procedural": 3}, 17, (32, 48), device=CPU, renderer=Renderer(samples=1))


def moving(seed: int, num_frames: int = 81) -> Tensor:
    """A picture of noise that shifts by a pixel a frame, (F,3,16,24) uint8."""
    picture = np.random.default_rng(seed).integers(0, 256, (3, 16, 24), dtype=np.uint8)
    return torch.from_numpy(np.stack([np.roll(picture, i, axis=2) for i in range(num_frames)]))


def test_a_mirrored_path_turns_and_strafes_the_other_way_and_climbs_and_walks_the_same() -> None:
    base = rollout("d-3,k-2")[-1]  # somewhere in the world, so that mirroring has to be about the first frame
    keys, swapped = "w-4,dl-5,i-3,a-2", "w-4,aj-5,i-3,d-2"
    mirrored = mirrored_path(base @ rollout(keys))
    assert torch.allclose(mirrored, base @ rollout(swapped), atol=1e-5)
    assert torch.equal(mirrored[0], base @ torch.eye(4))
    check_poses(mirrored)
    assert torch.allclose(mirrored_path(mirrored), base @ rollout(keys), atol=1e-5)


def test_a_straight_path_is_its_own_mirror_image() -> None:
    base = rollout("d-40,i-3")[-1]
    straight = base @ rollout("w-16")
    assert torch.allclose(mirrored_path(straight), straight, atol=1e-6)


def test_the_mirrored_frames_show_the_same_scene_from_the_same_first_pose(clips: HeldOut) -> None:
    mirrored = mirrored_frames(clips, Renderer(samples=1))
    assert mirrored.shape == clips.frames.shape
    assert torch.equal(mirrored[:, 0], clips.frames[:, 0])
    assert not torch.equal(mirrored[:, -1], clips.frames[:, -1])


def test_held_out_clips_are_the_first_of_their_split_however_many_are_asked_for(clips: HeldOut) -> None:
    two = held_out("test", {"procedural": 2}, 17, (32, 48), device=CPU, renderer=Renderer(samples=1))
    assert two.names == clips.names[:2] == ["procedural/test/000000", "procedural/test/000001"]
    assert torch.equal(two.frames, clips.frames[:2])
    assert two.noise_seed(1, 0) == clips.noise_seed(1, 0) != clips.noise_seed(0, 0)
    assert clips.noise_seed(1, 0) != clips.noise_seed(1, 1)


def test_a_generated_clip_does_not_depend_on_the_batch_it_is_made_in(clips: HeldOut) -> None:
    components = tiny_components()
    plan = SamplingPlan.of(components.settings)
    one, three = (generate(components, clips, clips.captions, plan, batch=batch) for batch in (1, 3))
    assert one.shape == clips.frames.shape
    assert one.dtype == torch.uint8
    assert (one.int() - three.int()).abs().max() <= 1


def test_batched_generation_makes_what_the_pipeline_makes(clips: HeldOut) -> None:
    from sana_wm.engine.pipeline import SanaWMPipeline

    components = tiny_components()
    ours = generate(components, clips, clips.captions, SamplingPlan.of(components.settings), batch=3)[1]
    pipeline = SanaWMPipeline(
        components.transformer, components.codec, components.text_encoder, components.settings, name="tiny"
    )
    video = pipeline(
        clips.frames[1, 0].permute(1, 2, 0).numpy(),
        clips.captions[1],
        c2w=clips.c2w[1],
        intrinsics=clips.intrinsics[1],
        generator=clips.noise_seed(1, 0),
    )
    difference = ours.permute(0, 2, 3, 1).int() - torch.from_numpy(video.frames).int()
    assert difference.abs().max() <= 1


def test_guidance_runs_the_empty_prompt_beside_each_clip(clips: HeldOut) -> None:
    components = tiny_components()
    plain, guided = (
        generate(components, clips, clips.captions, SamplingPlan.of(components.settings, guidance_scale=g), batch=2)
        for g in (1.0, 6.0)
    )
    assert guided.shape == plain.shape
    assert not torch.equal(guided, plain)


def test_a_perfect_video_has_the_cap_everywhere_and_beats_the_repeated_frame() -> None:
    truth, mirror = moving(0), moving(1)
    numbers = compare(ClipVideos(truth, rebuilt=truth, made=truth, shuffled=truth, mirrored=mirror), ALL)
    assert numbers["ae"] == numbers["follow.1-16.generated"] == numbers["follow.49-80.autoencoder"] == PSNR_CAP
    assert numbers["follow.17-48.below_autoencoder"] == 0.0
    assert numbers["follow.17-80.above_repeat"] == pytest.approx(PSNR_CAP - numbers["follow.17-80.repeat"])
    assert numbers["control"] == numbers["control.autoencoder"] == pytest.approx(PSNR_CAP - numbers["control.paths"])
    assert min(numbers["control"], numbers["follow.17-80.above_repeat"]) > 30
    assert numbers["text.psnr_change"] == numbers["text.control_change"] == 0.0
    assert numbers["ae.sharpness_ratio"] == 1.0


def test_spans_and_control_are_means_over_exactly_their_frames() -> None:
    truth = torch.full((81, 3, 4, 6), 100, dtype=torch.uint8)
    made = truth.clone()
    made[1:17] += 10
    made[17:49] += 20
    made[49:] += 40
    numbers = compare(ClipVideos(truth, rebuilt=truth, made=made), ALL)
    spans = ("1-16", "17-48", "49-80")
    expected = [20 * math.log10(255 / error) for error in (10, 20, 40)]
    assert [numbers[f"follow.{span}.generated"] for span in spans] == pytest.approx(expected)
    assert numbers["follow.17-80.below_autoencoder"] == pytest.approx(PSNR_CAP - (expected[1] + expected[2]) / 2)
    mirror = truth.clone()
    mirror[8:49] += 60
    control = compare(ClipVideos(truth, made=truth, mirrored=mirror), ["control"])["control"]
    assert control == pytest.approx(PSNR_CAP - 20 * math.log10(255 / 60))


def test_following_the_mirrored_path_or_standing_still_is_seen_as_lack_of_control() -> None:
    truth, mirror = moving(0), moving(1)
    assert compare(ClipVideos(truth, made=mirror, mirrored=mirror), ["control"])["control"] < -30
    straight = compare(ClipVideos(truth, made=mirror, mirrored=truth), ["control"])
    assert straight["control"] == 0.0
    assert "control.where_paths_differ" not in straight


def test_a_jump_at_every_latent_border_is_seen() -> None:
    smooth = torch.arange(81, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 6)
    flickering = smooth + 5 * ((torch.arange(81) + 7) // 8)[:, None, None, None].to(torch.uint8)
    assert border_jump(smooth) == pytest.approx(1.0)
    assert border_jump(flickering) == pytest.approx(6.0, rel=1e-2)


def test_nobody_keeps_the_own_prompt_when_prompts_are_shuffled() -> None:
    for count in (2, 3, 64):
        order = shuffled_order(count, 0)
        assert sorted(order) == list(range(count))
        assert all(there != here for here, there in enumerate(order))


def test_marks_are_judged_by_the_mean_over_their_own_world() -> None:
    scenes = [{"ae": 31.0}, {"ae": 29.5}, {"ae": 27.0, "control": 9.0}]
    aggregated = aggregate(["procedural", "procedural", "freedoom"], scenes)
    assert aggregated["procedural"]["ae"]["mean"] == pytest.approx(30.25)
    assert aggregated["procedural"]["ae"]["std"] == pytest.approx(1.5 / math.sqrt(2))
    assert aggregated["together"]["ae"]["n"] == 3
    judged = {mark["what"]: mark["passed"] for mark in judge(aggregated, None)}
    assert judged == {"autoencoder, procedural": True, "autoencoder, Freedoom": False}


def test_a_frozen_and_a_grey_minute_are_seen() -> None:
    truth = moving(0, 320)
    frozen = truth.clone()
    frozen[160:] = frozen[160]
    assert describe_long(truth, truth, 16)["frozen_fraction"] == 0.0
    assert describe_long(frozen, truth, 16)["frozen_fraction"] == pytest.approx(0.5, abs=0.01)
    assert describe_long(frozen, frozen, 16)["frozen_fraction"] == 0.0
    grey = truth.clone()
    grey[160:] = 128
    first, second = describe_long(grey, truth, 16)["generated"]["std"]
    assert first > 50 > second == 0.0


@pytest.mark.parametrize("worlds", [("procedural",), ("procedural", "freedoom")])
def test_every_part_runs_and_the_numbers_agree_with_each_other(worlds: tuple[str, ...], tmp_path: Path) -> None:
    if "freedoom" in worlds:
        pytest.importorskip("vizdoom")
    scenes = 2 * len(worlds)
    stages = set()
    result = measure(
        tiny_components(),
        "cpu",
        scenes=scenes,
        worlds=worlds,
        num_frames=25,
        minute_frames=33,
        out=tmp_path,
        progress=lambda stage, done, total: stages.add((stage, done == total)),
    )
    again = json.loads(json.dumps(result, allow_nan=False))
    assert [scene["world"] for scene in again["scenes"]] == [world for world in worlds for _ in range(2)]
    for scene in again["scenes"]:
        numbers = scene["numbers"]
        below = numbers["follow.1-16.autoencoder"] - numbers["follow.1-16.generated"]
        assert numbers["follow.1-16.below_autoencoder"] == pytest.approx(below)
        assert ("control" in numbers) == (scene["world"] == "procedural")
        assert "text.psnr_change" in numbers
    assert again["aggregate"]["together"]["ae"]["n"] == scenes
    assert again["minute"]["finite"] is True
    assert len(again["marks"]) == (8 if len(worlds) == 2 else 7)  # no frames 49-80 in 25
    assert {stage for stage, complete in stages if complete} >= {"render", "generate", "shuffled", "compare", "minute"}
    assert "| control: true minus mirrored path" in markdown(result)
    for name in ("minute.png", *(f"sheet_{world}_1.png" for world in worlds)):
        with Image.open(tmp_path / name) as sheet:
            assert sheet.width > 4 * 48


def test_freedoom_clips_are_the_same_with_worker_processes() -> None:
    pytest.importorskip("vizdoom")
    here, there = (
        held_out("test", {"freedoom": 1}, 17, (32, 48), device=CPU, renderer=Renderer(), workers=workers)
        for workers in (0, 1)
    )
    assert here.names == there.names
    assert here.names[0].startswith("freedoom/test/000000/")
    assert torch.equal(here.frames, there.frames)
    assert torch.equal(relative_to_first(here.c2w)[:, 0], torch.eye(4)[None])


def test_one_part_alone_measures_nothing_else() -> None:
    alone = measure(tiny_components(), "cpu", scenes=2, worlds=["procedural"], num_frames=17, parts=["ae"])
    assert {name.split(".")[0] for name in alone["aggregate"]["together"]} == {"ae"}
    assert alone["minute"] is None
    minute = measure(tiny_components(), "cpu", parts=["minute"], minute_frames=17)
    assert minute["scenes"] == []
    assert "one minute" in markdown(minute)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parts": ["ae", "colour"]}, "parts is"),
        ({"worlds": []}, "worlds is"),
        ({"scenes": 1}, "at least two for each"),
        ({"num_frames": 80}, "8k \\+ 1"),
        ({"split": "train"}, "'test' or 'validation'"),
        ({"seed": -1}, "seed is -1"),
        ({"batch": 0}, "batch 0"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(tiny_components(), "cpu", **arguments)  # type: ignore[arg-type]
