"""Captions of procedural clips: what can be seen, in varied words, never a word about camera motion."""

from __future__ import annotations

import numpy as np

from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.layout import Layout


def describe(layout: Layout, c2w: np.ndarray, lens: float, draws: Draws) -> str:
    """Caption of a clip."""
    return " ".join(["a scene with", *(t.noun for t in layout.things[:5])])
