"""Pose engines by name."""

from __future__ import annotations

from typing import Any

from sana_wm.errors import InputError
from sana_wm.evaluation.engines.engine import PoseEngine, TrueViews

ENGINES = ("pycolmap", "gt-pnp", "pi3", "pi3x", "vipe")


def make_engine(name: str, truth: TrueViews | None = None, **settings: Any) -> PoseEngine:
    """An engine ready to be used.

    Args:
        truth: the true render of the frames that will be asked for; for "gt-pnp" alone.
        settings: of the engine: weights (pi3, pi3x), command (vipe).

    Raises:
        InputError: there is no such engine or setting, its library is missing, or it lacks the truth.
    """
    if name not in ENGINES:
        raise InputError(f"engine is {name!r}; pose engines are {', '.join(ENGINES)}.")
    known = {"pi3": {"weights", "device"}, "pi3x": {"weights", "device"}, "vipe": {"command"}}.get(name, set())
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(
            f"the engine {name!r} has no setting {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}."
        )
    if name == "gt-pnp":
        from sana_wm.evaluation.engines.gt_pnp import GtPnp

        if truth is None:
            raise InputError("the engine 'gt-pnp' needs the true render with its depth; use 'pycolmap' without one.")
        return GtPnp(truth)
    if name == "pycolmap":
        from sana_wm.evaluation.engines.structure import Pycolmap

        return Pycolmap()
    if name == "vipe":
        from sana_wm.evaluation.engines.vipe import Vipe

        return Vipe(**settings)
    from sana_wm.evaluation.engines.pi3 import Pi3

    return Pi3(name, **settings)
