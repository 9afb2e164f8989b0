"""A real game as a world: VizDoom walks through the Freedoom levels and tells its camera exactly."""

from sana_wm.worlds.doom.world import DoomWorld, stream_clips

__all__ = ["DoomWorld", "stream_clips"]
