"""Dealing work out to processes that were started by hand, one a GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sana_wm.errors import InputError


@dataclass(frozen=True)
class Share:
    """Part `index` (from 0) of `count`."""

    index: int = 0
    count: int = 1

    def has(self, number: int) -> bool:
        """Whether piece `number` of the work is in it."""
        return number % self.count == self.index


def parse_share(text: str) -> Share:
    """`"1/2"` is the first of two parts.

    Raises:
        InputError: it is not of that form, or there is no such part.
    """
    match = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"share is {text!r}; it must be a part and how many there are, as in 1/2.")
    return Share(int(match[1]) - 1, int(match[2]))
