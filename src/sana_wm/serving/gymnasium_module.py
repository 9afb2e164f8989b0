"""Gymnasium, which comes with an extra of its own."""

from __future__ import annotations

from sana_wm.errors import InputError, first_line

try:
    import gymnasium
except ImportError as error:
    raise InputError(
        f"the environment needs the package gymnasium, which does not load ({first_line(error)}); install the extra "
        "[gym]."
    ) from error

__all__ = ["gymnasium"]
