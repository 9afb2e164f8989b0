"""Rotary tables against spec 10, section 5, and the promise that only differences of positions count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.ops.rotary import axis_angles, axis_pairs, rotary_table, rotate_pairs


def as_complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


@pytest.mark.parametrize(
    ("head_dim", "pairs"), [(112, (20, 18, 18)), (56, (10, 9, 9)), (64, (12, 10, 10)), (16, (4, 2, 2))]
)
def test_a_head_is_shared_out_between_time_rows_and_columns(head_dim: int, pairs: tuple[int, int, int]) -> None:
    assert axis_pairs(head_dim) == pairs
    assert sum(axis_pairs(head_dim)) == head_dim // 2


def test_the_table_holds_one_frequency_ladder_an_axis() -> None:
    cos, sin = rotary_table(torch.arange(2), 3, 5, 112)
    assert cos.shape == sin.shape == (30, 56)
    t, y, x = 1, 2, 3
    row = (t * 3 + y) * 5 + x
    ladder = [t * 10_000 ** (-2 * j / 40) for j in range(20)]
    ladder += [p * 10_000 ** (-2 * j / 36) for p in (y, x) for j in range(18)]
    angles = torch.tensor(ladder, dtype=torch.float64)
    torch.testing.assert_close(cos[row].double(), angles.cos(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(sin[row].double(), angles.sin(), rtol=1e-6, atol=1e-7)


def test_the_camera_table_is_the_high_frequency_part_of_the_full_one() -> None:
    frames = torch.arange(3)
    full, camera = rotary_table(frames, 2, 4, 112)[0], rotary_table(frames, 2, 4, 112, camera=True)[0]
    columns = [*range(10), *range(20, 29), *range(38, 47)]
    assert torch.equal(camera, full[:, columns])


def test_frames_count_from_where_the_clip_is() -> None:
    whole, later = rotary_table(torch.arange(5), 2, 3, 16), rotary_table(torch.arange(2, 5), 2, 3, 16)
    for a, b in zip(whole, later, strict=True):
        assert torch.equal(a[2 * 6 :], b)


def test_far_positions_keep_their_precision() -> None:
    angles = axis_angles(torch.tensor([1023]), 20)
    assert angles.dtype == torch.float64
    assert float(angles[0, 1]) == pytest.approx(1023 * 10_000 ** (-1 / 20), rel=1e-14)


def test_rotation_is_multiplication_by_a_complex_number() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 3, 16, generator=g)
    cos, sin = rotary_table(torch.arange(2), 1, 3, 16)
    rotated = rotate_pairs(x, cos[:, None], sin[:, None])
    torch.testing.assert_close(as_complex(rotated), as_complex(x) * torch.complex(cos, sin)[:, None])
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))


def test_products_depend_on_differences_of_positions_only() -> None:
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(16, generator=g), torch.randn(16, generator=g)
    cos, sin = rotary_table(torch.arange(6), 4, 5, 16)

    def product(a: tuple[int, int, int], b: tuple[int, int, int]) -> Tensor:
        rows = [(t * 4 + y) * 5 + x for t, y, x in (a, b)]
        rotated = [rotate_pairs(v, cos[r], sin[r]) for v, r in zip((q, k), rows, strict=True)]
        return rotated[0] @ rotated[1]

    torch.testing.assert_close(product((1, 0, 4), (0, 2, 1)), product((5, 1, 3), (4, 3, 0)))
    assert not torch.allclose(product((1, 0, 4), (0, 2, 1)), product((1, 0, 4), (1, 2, 1)), atol=1e-3)
