"""The exception for a generation that went wrong although its input was right."""

from __future__ import annotations


class GenerationError(RuntimeError):
    """A stage made something that is no video (not finite, or one flat colour); the message names the stage."""


class DeviceFullError(GenerationError):
    """A stage did not fit into the device's memory; the message says what would."""
