"""The names under which `gymnasium.make` finds the environments."""

from __future__ import annotations

from importlib.util import find_spec

NANO = "SanaWM/Nano-v0"


def register_envs() -> None:
    """Tell Gymnasium of the environments, once, if it is installed; neither PyTorch nor the engine is imported."""
    if find_spec("gymnasium") is None:
        return
    from gymnasium.envs.registration import register, registry

    if NANO not in registry:
        register(NANO, entry_point="sana_wm.serving.env:model_env")
