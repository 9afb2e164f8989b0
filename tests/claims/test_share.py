"""Work is dealt out completely and without overlap."""

from __future__ import annotations

import pytest

from sana_wm.claims.share import Share, parse_share
from sana_wm.errors import InputError


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_piece_belongs_to_one_part(count: int) -> None:
    parts = [parse_share(f"{i}/{count}") for i in range(1, count + 1)]
    assert [sum(part.has(piece) for part in parts) for piece in range(7)] == [1] * 7


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", ""])
def test_no_such_part_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="share is"):
        parse_share(text)


def test_the_default_is_all() -> None:
    assert all(Share().has(piece) for piece in range(5))
