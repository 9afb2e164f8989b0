"""Every template obeys its limits, starts where the image was taken, and is fitted to the time and the scene."""

from __future__ import annotations

import math

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.bench.nano.courses import LEAST_AMPLITUDE, Course, fitted, paced
from sana_wm.evaluation.bench.nano.templates import BY_NAME, TEMPLATES, Template
from sana_wm.evaluation.trajectory import HARD, SIMPLE, WHIP_PAN, speeds, turn_rates_deg

FPS = 16.0
ALL = [pytest.param(split, template, id=template.name) for split, ts in TEMPLATES.items() for template in ts]


def angles(c2w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Yaw to the right and pitch upwards, degrees, of poses whose yaw stays within half a turn either way."""
    ahead = c2w[:, :3, 2]
    return torch.rad2deg(torch.atan2(ahead[:, 0], ahead[:, 2])), torch.rad2deg(torch.asin(-ahead[:, 1]))


def test_there_are_ten_templates_a_split_with_the_limits_of_the_split() -> None:
    assert [len(templates) for templates in TEMPLATES.values()] == [10, 10]
    assert len(BY_NAME) == 20
    for split, templates in TEMPLATES.items():
        for template in templates:
            whip = WHIP_PAN if template.name == "whip_pan" else HARD
            assert template.limits == (SIMPLE if split == "simple" else whip)


@pytest.mark.parametrize(("split", "template"), ALL)
def test_a_template_keeps_to_its_amplitudes(split: str, template: Template) -> None:
    c2w = Course(template.name).path(961, 1.0)
    place = c2w[:, :3, 3]
    far, up = float(place.norm(dim=1).max()), -place[:, 1]
    yaw, pitch = angles(c2w)
    simple = split == "simple"
    assert (0.3 if simple else 0.5) <= far <= (0.8 if simple else 1.2) + 1e-9
    assert float(up.min()) >= -0.02
    assert float(up.max()) <= 0.4 + 1e-3
    assert float(yaw.max() - yaw.min()) <= (60 if simple else 180)
    assert float(pitch.abs().max()) <= (15 if simple else 50)


@pytest.mark.parametrize("seconds", [5, 60])
@pytest.mark.parametrize(("split", "template"), ALL)
def test_a_template_obeys_its_limits_in_any_time_and_starts_at_the_identity(
    split: str, template: Template, seconds: int
) -> None:
    frames = 16 * seconds + 1
    course = paced(Course(template.name, mirrored=not template.sided), frames, FPS)
    c2w = course.path(frames, 7.0)
    assert torch.allclose(c2w[0], torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert float(speeds(c2w, FPS).max()) <= template.limits.speed * 7.0 * (1 + 1e-6)
    assert float(turn_rates_deg(c2w, FPS).max()) <= template.limits.turn_rate_deg * (1 + 1e-6)
    if seconds == 60:
        assert course.steps is None
        assert course.amplitude > 0.9


@pytest.mark.parametrize(("split", "template"), ALL)
def test_a_repeated_template_ends_where_it_began(split: str, template: Template) -> None:
    if template.most_laps > 1:
        assert template.keys[-1] == template.keys[0]
        last = Course(template.name, laps=template.most_laps).path(961, 5.0)[-1]
        assert torch.allclose(last, torch.eye(4, dtype=torch.float64), atol=1e-9)


def test_in_little_time_only_the_beginning_is_run() -> None:
    course = paced(Course("double_loop"), 81, FPS)
    assert course.steps is not None
    assert course.amplitude >= LEAST_AMPLITUDE
    whole, part = Course("double_loop").keys(1.0), Course("double_loop", steps=course.steps).keys(1.0)
    assert torch.equal(part.positions, whole.positions[: course.steps + 1])
    assert torch.equal(part.quaternions, whole.quaternions[: course.steps + 1])


def test_mirroring_exchanges_left_and_right_only() -> None:
    plain, mirrored = (Course("compound", mirrored=m).path(61, 3.0) for m in (False, True))
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert torch.allclose(mirrored[:, :3, 3], plain[:, :3, 3] * flip, atol=1e-9)
    assert torch.allclose(mirrored[:, :3, :3], flip[:, None] * plain[:, :3, :3] * flip, atol=1e-9)


def test_the_part_in_the_plane_neither_rises_nor_pitches() -> None:
    c2w = Course("compound", level=True).path(61, 3.0)
    assert c2w[:, 1, 3].abs().max() == 0
    assert torch.allclose(c2w[:, :3, 1], torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(61, 3), atol=1e-12)
    for template in BY_NAME.values():
        if template.level:
            same = (Course(template.name, level=level).path(31, 1.0) for level in (False, True))
            assert torch.equal(next(same), next(same))


def test_a_course_shrinks_to_keep_clear_of_the_scene() -> None:
    wall = torch.tensor([[0.0, 0.0, 6.0]])
    course, path = fitted(paced(Course("forward"), 961, FPS), 961, FPS, 7.0, wall, clearance=0.15)
    assert course.amplitude == path.amplitude == pytest.approx(0.8)
    assert path.clearance >= 0.15 * 7.0
    assert torch.equal(course.path(961, 7.0), path.c2w)
    with pytest.raises(InputError, match="does not fit its limits"):
        fitted(course, 961, FPS, 7.0, torch.tensor([[0.0, 0.0, 0.1]]), clearance=0.15)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"template": "moonwalk"}, "template is 'moonwalk'; templates are forward"),
        ({"template": "forward", "laps": 2}, "laps of forward is 2; it must lie between 1 and 1"),
        ({"template": "whip_pan", "laps": 2, "steps": 3}, "steps of whip_pan is 3"),
        ({"template": "forward", "steps": 4}, "steps of forward is 4; it must lie between 1 and 3"),
        ({"template": "forward", "amplitude": math.nan}, "amplitude of forward is nan"),
        ({"template": "arc_left", "mirrored": True}, "arc_left is mirrored"),
    ],
)
def test_wrong_courses_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Course(**values)  # type: ignore[arg-type]


def test_too_little_time_is_refused() -> None:
    with pytest.raises(InputError, match="2 frames at 1600 fps are too few for the template forward"):
        paced(Course("forward"), 2, 1600.0)
