"""Light and weather: time of day, sun, sky, fog, far mountains, road."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.materials import Colour, Material
from sana_wm.worlds.procedural.scene import NUM_ENV, SKY, Env


@dataclass(frozen=True)
class _Hour:
    elevation: tuple[float, float]  # of the sun or moon, degrees
    sun: Colour
    ambient: Colour
    zenith: Colour
    horizon: Colour
    glow: float


HOURS: dict[str, _Hour] = {
    "dawn": _Hour((9, 20), (0.80, 0.58, 0.42), (0.56, 0.52, 0.58), (0.38, 0.50, 0.76), (0.98, 0.78, 0.64), 0.5),
    "noon": _Hour((38, 68), (0.66, 0.63, 0.56), (0.52, 0.54, 0.58), (0.26, 0.50, 0.86), (0.74, 0.85, 0.94), 0.25),
    "dusk": _Hour((6, 15), (0.86, 0.50, 0.32), (0.58, 0.50, 0.57), (0.26, 0.24, 0.48), (0.96, 0.56, 0.40), 0.6),
    "overcast": _Hour((35, 60), (0.16, 0.16, 0.16), (0.78, 0.79, 0.81), (0.56, 0.61, 0.67), (0.80, 0.82, 0.84), 0.0),
    "night": _Hour((28, 55), (0.24, 0.29, 0.42), (0.22, 0.26, 0.38), (0.03, 0.05, 0.13), (0.13, 0.17, 0.29), 0.2),
}
"""Light of every hour; ``overcast`` is a cloudy noon."""


@dataclass(frozen=True)
class Weather:
    """What the caption says about light and weather."""

    hour: str
    cloudy: bool
    foggy: bool
    mountains: bool
    sun: tuple[float, float, float]
    road: str  # word for the road, or ""


def draw_weather(
    draws: Draws, surfaces: np.ndarray, roads: tuple[tuple[str, Colour], ...]
) -> tuple[np.ndarray, Weather]:
    """Draw light and weather; fills the sky row of ``surfaces``; returns the environment vector and its description."""
    hour = draws.choice(("dawn", "noon", "dusk", "overcast", "night"), (0.18, 0.40, 0.18, 0.12, 0.12))
    light = HOURS[hour]
    env = np.zeros(NUM_ENV, np.float32)
    elevation, azimuth = math.radians(draws.between(*light.elevation)), draws.between(0, 2 * math.pi)
    sun = (
        math.cos(elevation) * math.sin(azimuth),
        -math.sin(elevation),
        math.cos(elevation) * math.cos(azimuth),
    )
    env[Env.SUN_X : Env.SUN_Z + 1] = sun
    env[Env.SUN_R : Env.SUN_B + 1] = _vary(draws, light.sun, 0.06)
    env[Env.AMBIENT_R : Env.AMBIENT_B + 1] = _vary(draws, light.ambient, 0.04)
    env[Env.ZENITH_R : Env.ZENITH_B + 1] = _vary(draws, light.zenith, 0.08)
    env[Env.HORIZON_R : Env.HORIZON_B + 1] = _vary(draws, light.horizon, 0.05)
    foggy = draws.chance(0.16)
    env[Env.FOG] = 1 / draws.between(18, 34) if foggy else 1 / draws.between(90, 260)
    if foggy:  # the sky is fog as well
        rise, low = slice(Env.ZENITH_R, Env.ZENITH_B + 1), slice(Env.HORIZON_R, Env.HORIZON_B + 1)
        env[low] = 0.55 * env[low] + 0.45 * env[low].mean()
        env[rise] = 0.25 * env[rise] + 0.75 * env[low]
    env[Env.DISC] = 2.0 if hour == "overcast" or foggy else math.cos(math.radians(draws.between(1.6, 2.6)))
    env[Env.GLOW] = light.glow * (0.4 if foggy else 1.0)
    cloudy = not foggy and (hour == "overcast" or draws.chance(0.45))
    env[Env.CLOUDS] = draws.between(0.5, 0.9) if cloudy else 0.0
    mountains = not foggy and draws.chance(0.6)
    env[Env.RIDGE] = draws.between(0.04, 0.14) if mountains else 0.0
    ridge = [0.45 * z + 0.55 * h for z, h in zip(light.zenith, light.horizon, strict=True)]
    tone = draws.choice((0.5, 0.62, 0.72))
    env[Env.RIDGE_R : Env.RIDGE_B + 1] = [tone * c * k for c, k in zip(ridge, (0.92, 1.0, 1.05), strict=True)]
    phase = draws.between(0, 2 * math.pi)
    env[Env.RIDGE_A], env[Env.RIDGE_C] = math.cos(phase), math.sin(phase)
    road, colour = draws.choice(roads) if roads and draws.chance(0.6) else ("", (0.5, 0.5, 0.5))
    turn = draws.between(-0.5, 0.5)
    env[Env.ROAD_COS], env[Env.ROAD_SIN] = math.sin(turn), math.cos(turn)  # roughly along z
    env[Env.ROAD_OFFSET] = draws.between(-3, 3)
    env[Env.ROAD_HALF] = draws.between(0.7, 1.6) * (1.5 if road == "road" else 1.0) if road else -10.0
    env[Env.ROAD_BEND] = draws.between(0, 1.8)
    env[Env.ROAD_WAVE] = draws.between(0.08, 0.22)
    env[Env.ROAD_R : Env.ROAD_B + 1] = _vary(draws, colour, 0.05)
    env[Env.ROAD_DASH] = 1.0 if road == "road" and draws.chance(0.7) else 0.0
    Material("sky", mottle=0.0, grain=draws.between(0.22, 0.4)).write(surfaces[SKY], (0.0, 0.0, 0.0))
    return env, Weather(hour, cloudy, foggy, mountains, sun, road)


def _vary(draws: Draws, colour: Colour, amount: float) -> list[float]:
    return [min(1.0, max(0.0, c * (1 + draws.between(-amount, amount)))) for c in colour]
