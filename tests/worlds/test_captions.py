"""Captions name what shows, in varied words, and never the camera's motion."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from sana_wm.worlds.procedural import Scene, draw, draw_with_layout, lens_intrinsics
from sana_wm.worlds.procedural.captions import MIN_SHARE
from sana_wm.worlds.procedural.render import surface_rows
from sana_wm.worlds.procedural.scene import SKY
from sana_wm.worlds.procedural.visibility import look

SEEDS = range(3000, 3040)
MOTION = re.compile(
    r"\b(camera|video|clip|shot|pan\w*|tilt\w*|zoom\w*|dolly\w*|mov\w+|walk\w*|fly\w*|orbit\w*|forward|backward\w*|turn\w*|rotat\w*"
    r"|approach\w*|strafe\w*|follow\w*|view\w*)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return [draw(seed, 33).caption for seed in SEEDS]


def test_captions_have_8_to_45_words(captions: list[str]) -> None:
    counts = [len(caption.split()) for caption in captions]
    assert min(counts) >= 8
    assert max(counts) <= 45


def test_captions_are_well_formed(captions: list[str]) -> None:
    for caption in captions:
        assert caption[0].isupper()
        assert caption.endswith(".")
        assert "  " not in caption
        assert not re.search(r" [,.:]|\.\.|,,|\ba [aeio]|\ban [^aeio]|[{}]", caption), caption


def test_captions_never_speak_of_camera_motion(captions: list[str]) -> None:
    for caption in captions:
        assert not MOTION.search(caption), caption


def test_captions_vary(captions: list[str]) -> None:
    assert len(set(captions)) == len(captions)
    openings = {" ".join(caption.split()[:2]) for caption in captions}
    assert len(openings) > 15


def test_what_counts_as_seen_really_shows_in_the_pictures() -> None:
    named = shown = 0
    for seed in SEEDS:
        drawn, layout = draw_with_layout(seed, 33)
        seen = look(layout, drawn.c2w, drawn.lens)
        scene = Scene.stack([drawn.surfaces], [drawn.environment])
        poses = torch.from_numpy(drawn.c2w[[0, 16, 32]])[None]
        pictures = surface_rows(scene, poses, lens_intrinsics([drawn.lens], 3, 36, 60), 36, 60)[0].numpy()
        for number, thing in enumerate(layout.things):
            share = np.isin(pictures, thing.rows).mean((1, 2))
            if seen.share[number] >= MIN_SHARE:
                named += 1
                shown += share.max() >= 0.3 * MIN_SHARE
            if seen.first[number] >= 3 * MIN_SHARE and share[0] > 0:
                columns = np.nonzero(np.isin(pictures[0], thing.rows))[1]
                assert abs(columns.mean() / 60 - seen.side[number]) < 0.3
        if seen.sky > 0.15:
            assert (pictures == SKY).mean((1, 2)).max() > 0.05
    assert named > 130
    assert shown / named > 0.97


def test_light_and_fog_are_named() -> None:
    for seed in SEEDS:
        drawn, layout = draw_with_layout(seed, 33)
        text = drawn.caption.lower()
        if layout.weather.foggy:
            assert re.search(r"fog|mist", text)
        else:
            assert not re.search(r"fog|mist", text)
        if layout.weather.hour == "night":
            assert re.search(r"night|dark|moonlight", text)
        assert layout.ground in text
