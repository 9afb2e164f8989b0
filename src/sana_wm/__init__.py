"""SANA-WM: a camera-controlled video world model.

    from sana_wm import SanaWMPipeline

    pipe = SanaWMPipeline.from_pretrained("nano")
    video = pipe(image="street.png", prompt="a quiet street at dusk", action="w-40,dw-40")
    video.save("street.mp4")

Or step by step, for as long as one likes:

    from sana_wm import World

    with World.begin(pipe, "street.png", "a quiet street at dusk") as world:
        frames = world.step("w")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sana_wm.errors import InputError

if TYPE_CHECKING:
    from sana_wm.engine.example import Example, load_example
    from sana_wm.engine.failure import GenerationError
    from sana_wm.engine.pipeline import SanaWMPipeline
    from sana_wm.engine.video import WorldVideo
    from sana_wm.engine.world import World

__version__ = "0.1.0"

__all__ = [
    "Example", "GenerationError", "InputError", "SanaWMPipeline", "World", "WorldVideo", "__version__", "load_example"
]  # fmt: skip

_HOMES = {
    "Example": "sana_wm.engine.example",
    "GenerationError": "sana_wm.engine.failure",
    "SanaWMPipeline": "sana_wm.engine.pipeline",
    "World": "sana_wm.engine.world",
    "WorldVideo": "sana_wm.engine.video",
    "load_example": "sana_wm.engine.example",
}


def __getattr__(name: str) -> Any:
    """Import the engine on first use: the command line answers `--help` without PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
