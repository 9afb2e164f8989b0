"""The counted work is the work that is done: by PyTorch's own counter, and by the published totals of the full size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sana_wm.evaluation import forward_speed
from sana_wm.evaluation.forward_floor import H100, PARTS, Peaks, Work, compared, forward_work, totals
from sana_wm.models.config import TRANSFORMERS
from sana_wm.ops.dispatch import plain_only
from tests.models.small import CONFIG, inputs, trained


def scan_flops(transition: tuple[int, ...], write: tuple[int, ...], *_: Any, **__: Any) -> int:
    """Of `affine_scan`, which PyTorch's counter cannot look into: shapes (T,L,D,D) and (T,L,D,Dv)."""
    frames, streams, width, columns = write
    return 2 * frames * streams * width * width * columns


@torch.no_grad()
def counted(size: tuple[int, int, int], batch: int) -> dict[str, int]:
    """FLOPs of a forward pass of the tiny model by operator, with the plain twins."""
    model, given = trained(), inputs(batch, *size)
    context = model.condition(size, given.y, None, given.camera_conditions, given.chunk_plucker)
    formulas: dict[Any, Callable[..., int]] = {torch.ops.sana_wm.affine_scan: scan_flops}
    with (
        plain_only(),
        sdpa_kernel(SDPBackend.MATH),  # which is made of products
        FlopCounterMode(display=False, custom_mapping=formulas) as counter,
    ):
        model.denoise(given.x, given.timestep, context)
    return {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}


def padding(size: tuple[int, int, int], batch: int) -> int:
    """FLOPs of the plain temporal convolution on the frame before the first and the one after the last."""
    return 2 * 2 * batch * size[1] * size[2] * CONFIG.width**2 * CONFIG.depth


def filters(work: list[Work]) -> float:
    """FLOPs of the short filters on the keys of a branch. A symmetric filter multiplies once for two taps."""
    return sum(one.count * one.flops for one in work if one.what.startswith("main k"))


def filters_tap_by_tap(size: tuple[int, int, int], batch: int) -> int:
    """The same as the plain twin does them: one depthwise convolution with all taps, also of what is padding."""
    blocks = sum(not CONFIG.is_softmax(i) for i in range(CONFIG.depth))
    return 2 * (2 * CONFIG.conv_kernel - 1) * batch * math.prod(size) * CONFIG.width * blocks


@pytest.mark.parametrize(("size", "batch"), [((3, 3, 5), 1), ((5, 2, 2), 2)])
def test_flops_are_those_that_a_counter_sees(size: tuple[int, int, int], batch: int) -> None:
    work = forward_work(CONFIG, size, batch=batch, caption_tokens=CONFIG.caption_tokens)
    # Both branches filter their keys, and nothing but the filter costs the main branch's keys any FLOPs.
    found = sum(one.count * one.flops for one in work) + 2 * (filters_tap_by_tap(size, batch) - filters(work))
    assert found + padding(size, batch) == sum(counted(size, batch).values())


def test_the_full_size_costs_what_the_published_table_says() -> None:
    """Spec 10, section 14.1: all 300 caption tokens; its Plücker product is folded here (section 14.2)."""
    work = forward_work(TRANSFORMERS["2.6b"], (121, 22, 40), caption_tokens=300)
    tflop = {part: found["tflop"] for part, found in totals(work).items()}
    assert tflop["attention"] == pytest.approx(1015.9 + 5.7, abs=0.1)
    assert tflop["gated delta rule"] == pytest.approx(5.6 + 0.4, abs=0.05)
    assert tflop["feed-forward middle"] == pytest.approx(0.5, abs=0.05)
    linear = 64.1 + 21.4 + 21.4 + 64.1 + 21.4 + 42.7 + 128.2 + 64.1 + 64.1 + 0.2
    assert tflop["products"] == pytest.approx(linear + 0.5, rel=2e-3)
    unfolded = tflop["all"] + 21.4 - 0.5
    assert unfolded == pytest.approx(1541, rel=2e-3)
    assert unfolded / 800 == pytest.approx(1.93, abs=0.01)


@pytest.mark.parametrize(("frames", "expected"), [(21, 121), (41, 293)])
def test_shorter_clips_cost_what_the_published_text_says(frames: int, expected: float) -> None:
    work = forward_work(TRANSFORMERS["2.6b"], (frames, 22, 40), caption_tokens=300)
    unfolded = totals(work)["all"]["tflop"] + 20 * 2 * frames * 880 * 2240 * (2240 - 48) / 1e12
    assert unfolded == pytest.approx(expected, rel=0.01)


def test_a_floor_is_the_slower_of_arithmetic_and_traffic() -> None:
    peaks = Peaks(flops=10.0, bytes=2.0)
    assert Work("other", "", flops=40, bytes=2, count=3).seconds(peaks) == 12
    assert Work("other", "", flops=10, bytes=6, count=2).seconds(peaks) == 6


def test_a_pass_over_the_tokens_moves_every_number_once() -> None:
    """N tokens of C channels in bfloat16: 0.477 GB at full size and length (spec 10, section 14.1)."""
    work = forward_work(TRANSFORMERS["2.6b"], (121, 22, 40), caption_tokens=300)
    mean = next(one for one in work if one.what == "mean of a frame")
    assert mean.bytes / 1e9 == pytest.approx(0.477, abs=0.001)
    assert mean.count == 15
    middle = next(one for one in work if one.part == "feed-forward middle")
    assert middle.bytes / 1e9 == pytest.approx(1.5 * 2.86, abs=0.01)


def test_measured_parts_stand_beside_their_floors() -> None:
    work = forward_work(CONFIG, (3, 3, 5), caption_tokens=6)
    measured = dict.fromkeys(PARTS, 1.0)
    found = compared(work, measured, H100)
    assert found["peak_tflops"] == 989
    parts = found["parts"]
    assert list(parts) == [*PARTS, "all"]
    assert parts["all"]["seconds"] == len(PARTS)
    for numbers in parts.values():
        assert numbers["times_floor"] == pytest.approx(numbers["seconds"] / numbers["floor_seconds"])
    floors = [parts[part]["floor_seconds"] for part in PARTS]
    assert parts["all"]["floor_seconds"] == pytest.approx(sum(floors))


def test_the_parts_are_those_that_are_timed() -> None:
    assert {*forward_speed.PARTS, "other"} == set(PARTS)


def test_more_tokens_are_more_work_in_every_part() -> None:
    def parts(frames: int, batch: int) -> dict[str, dict[str, float]]:
        return totals(forward_work(CONFIG, (frames, 3, 5), batch=batch, caption_tokens=6))

    one = parts(4, 1)
    for other in (parts(8, 1), parts(4, 2)):
        for part in PARTS:
            assert other[part]["gb"] > one[part]["gb"]
            assert other[part]["tflop"] >= one[part]["tflop"]
