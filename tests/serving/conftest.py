"""Fixtures of this folder; without the packages of the extra `serve` each test module says so and is skipped."""

from __future__ import annotations

from contextlib import suppress

import pytest

with suppress(pytest.skip.Exception):
    from tests.serving.live import serve, shared_pipe  # noqa: F401
