"""The runner holds golden files of metrics to the tolerances of their README, whichever cases they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from tests import parity
from tests.parity_kinds.base import Fixture, load_fixture

FIXTURES = Path(__file__).parents[1] / "fixtures"
A_RESULT = "out.noise.release.metrics"


def poses() -> Fixture:
    return load_fixture(FIXTURES / "eval_pose_metrics.safetensors")


@pytest.mark.parametrize(
    ("column", "error", "passes"),
    [(0, 4e-3, True), (0, 7e-3, False), (1, 1e-5, True), (1, 1e-4, False), (2, 1e-4, False)],
)
def test_degrees_and_lengths_have_their_own_tolerances(column: int, error: float, passes: bool) -> None:
    fixture = poses()
    fixture.tensors[A_RESULT][column] += error
    assert parity.compare(fixture, lambda line: None).failed == ([] if passes else [A_RESULT])


def test_a_file_with_fewer_cases_is_still_recognised_and_checked_whole() -> None:
    fixture = poses()
    kept = {n: t for n, t in fixture.tensors.items() if n.split(".")[1] in ("short", "skipfirst")}
    report = parity.compare(Fixture(fixture.path, fixture.config, fixture.notes, kept), lambda line: None)
    assert report.passed == 16
    assert report.ok(strict=True)


def test_an_inlier_must_be_exact() -> None:
    fixture = load_fixture(FIXTURES / "eval_umeyama.safetensors")
    inlier: Tensor = fixture.tensors["out.metric.inlier"]
    inlier[3] = 1 - inlier[3]
    assert parity.compare(fixture, lambda line: None).failed == ["out.metric.inlier"]
