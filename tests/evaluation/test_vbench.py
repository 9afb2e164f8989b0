"""Overall is the published formula over all seven dimensions, never over fewer."""

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.evaluation.vbench import (
    DIMENSIONS,
    QUALITY_DIMENSIONS,
    normalise,
    overall,
    quality_score,
    semantic_score,
    temporal_flickering,
    total_score,
)


def row(SC: float, BC: float, TF: float, MS: float, AQ: float, IQ: float, DD: float) -> dict[str, float]:
    values = (SC, BC, TF, MS, DD, AQ, IQ)
    return {name: value / 100 for name, value in zip(QUALITY_DIMENSIONS, values, strict=True)}


@pytest.mark.parametrize(
    ("raw", "published"),
    [
        (row(88.62, 93.21, 96.18, 98.61, 58.05, 72.12, 61.25), 80.62),
        (row(87.46, 91.87, 94.99, 97.69, 55.70, 69.69, 72.50), 79.29),
        (row(87.26, 92.55, 95.54, 98.49, 56.67, 71.38, 91.25), 81.89),
    ],
    ids=["simple with refiner", "simple", "hard with refiner"],
)
def test_overall_reproduces_the_published_table(raw: dict[str, float], published: float) -> None:
    assert overall(raw) == pytest.approx(published, abs=0.011)


@pytest.mark.parametrize("missing", QUALITY_DIMENSIONS)
def test_a_missing_dimension_is_an_error_not_a_shorter_mean(missing: str) -> None:
    raw = dict.fromkeys(QUALITY_DIMENSIONS, 0.9)
    del raw[missing]
    with pytest.raises(InputError, match=f"lack {missing};"):
        overall(raw)


def test_total_needs_the_semantic_dimensions_too() -> None:
    raw = dict.fromkeys(DIMENSIONS, 0.9)
    assert total_score(raw) == pytest.approx((4 * quality_score(raw) + semantic_score(raw)) / 5)
    del raw["temporal_style"]
    assert overall(raw) > 0
    with pytest.raises(InputError, match="lack temporal_style"):
        total_score(raw)


def test_dynamic_degree_counts_half() -> None:
    raw = dict.fromkeys(QUALITY_DIMENSIONS, 1.0) | {"motion_smoothness": 0.9975}
    assert quality_score(raw) == pytest.approx(1.0)
    assert quality_score(raw | {"dynamic_degree": 0.0}) == pytest.approx(6 / 6.5)


def test_the_release_clips_and_vbench_does_not() -> None:
    raw = dict.fromkeys(DIMENSIONS, 0.1) | {"overall_consistency": 0.182}
    assert normalise(raw)["temporal_flickering"] == 0.0
    assert normalise(raw, "vbench")["temporal_flickering"] < 0
    assert normalise(raw)["overall_consistency"] == pytest.approx(0.182)
    assert normalise(raw, "vbench")["overall_consistency"] == pytest.approx(0.5)


def test_percent_and_nan_are_refused_by_name() -> None:
    raw = dict.fromkeys(QUALITY_DIMENSIONS, 0.9)
    with pytest.raises(InputError, match=r"imaging_quality is 72.1; it must be a finite share of 1"):
        overall(raw | {"imaging_quality": 72.1})
    with pytest.raises(InputError, match="imaging_quality is nan"):
        overall(raw | {"imaging_quality": float("nan")})
    with pytest.raises(InputError, match="constants is 'paper'"):
        normalise(raw, "paper")  # type: ignore[arg-type]


def test_flickering_is_the_mean_change_from_frame_to_frame() -> None:
    video = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    assert temporal_flickering(video) == 1.0
    video[1] = 51
    assert temporal_flickering(video) == pytest.approx(0.8)  # up and down by a fifth: bytes must not wrap around
    with pytest.raises(InputError, match=r"shape \(1, 3, 4, 4\)"):
        temporal_flickering(video[:1])
