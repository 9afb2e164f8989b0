"""Captions of procedural clips: what can be seen, in varied words, never a word about camera motion."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sana_wm.worlds.procedural.draws import Draws
from sana_wm.worlds.procedural.layout import Layout, Placed
from sana_wm.worlds.procedural.materials import GROUNDS
from sana_wm.worlds.procedural.visibility import Seen, look

MIN_SHARE = 0.012
"""Share of a frame that a thing must cover to be named."""

_HOURS = {
    "dawn": ("at dawn", "at sunrise", "in soft morning light", "early in the morning"),
    "noon": ("on a sunny day", "at noon", "in bright daylight", "in clear midday light"),
    "dusk": ("at dusk", "at sunset", "in warm evening light", "as the evening falls"),
    "overcast": ("under an overcast sky", "on a grey day", "in flat grey light", "on a cloudy day"),
    "night": ("at night", "after dark", "in dim moonlight", "under a dark night sky"),
}
_SKIES = {
    "dawn": ("a pale orange sky", "a peach-coloured sky", "a soft pastel sky"),
    "noon": ("a clear blue sky", "a bright blue sky", "a blue sky"),
    "dusk": ("a red and purple sky", "a glowing orange sky", "a purple evening sky"),
    "overcast": ("a grey sky", "heavy grey clouds", "a dull white sky"),
    "night": ("a dark blue sky", "a nearly black sky", "a deep night sky"),
}
_CLOUDY = ("scattered clouds", "drifts of thin cloud", "soft clouds in the sky")
_FOGGY_NOON = ("at noon", "around midday", "in the daytime", "by day")
_FOGGY = ("in the fog", "in thick mist", "with fog all around", "on a misty day")
_PLACES = {
    "village": ("a village", "a small village", "a village scene"),
    "park": ("a park", "a quiet park", "a green open park"),
    "ruins": ("old ruins", "an ancient site", "scattered ruins"),
    "city": ("a city block", "a city square", "an urban scene"),
    "yard": ("a storage yard", "an industrial yard", "a depot"),
    "playground": (
        "a playground of geometric shapes",
        "a toy-like world of simple shapes",
        "an arrangement of coloured solids",
    ),
    "desert": ("a desert", "a desert landscape", "a dry desert plain"),
    "forest": ("a forest clearing", "a sparse forest", "a woodland scene"),
}
_GROUNDS = ("on {}", "with {} underfoot", "the ground is {}", "standing on {}", "the floor is {}")
_NUMBERS = {2: ("two",), 3: ("three",), 4: ("four", "several")}
_SYNONYMS = {
    "tree": ("tree", "leafy tree", "round tree"),
    "column": ("column", "pillar"),
    "rock": ("rock", "stone"),
    "crate": ("crate", "box"),
    "sphere": ("sphere", "ball"),
    "house": ("house", "building with a pitched roof", "house"),
}
_PLURALS = {
    "fence": "fences",
    "boulder": "boulders",
    "bush": "bushes",
    "stack of crates": "stacks of crates",
    "box": "boxes",
    "building with a pitched roof": "buildings with pitched roofs",
}


def describe(layout: Layout, c2w: np.ndarray, lens: float, draws: Draws) -> str:
    """Write a caption of 8 to 45 words for the clip that ``c2w (F, 4, 4)`` sees; only what shows is named."""
    seen = look(layout, c2w, lens)
    weather = layout.weather
    place = draws.choice(_PLACES[layout.theme])
    dull = weather.foggy and weather.hour == "noon"
    hour = draws.choice(_FOGGY_NOON if dull else _HOURS[weather.hour])
    ground = draws.choice(_GROUNDS).format(_article(layout.ground))
    things = _things(layout, seen, draws)
    extras = _extras(layout, seen, draws)
    fog = draws.choice(_FOGGY) if weather.foggy else ""
    named = _join(things)
    opening = draws.integer(0, 3) if named else 3
    if opening == 0:
        text = _sentence(f"{place} {hour} {fog}, {ground}: {named}")
    elif opening == 1:
        text = _sentence(f"{named}, {ground}, {hour} {fog}")
    elif opening == 2:
        text = _sentence(f"{place} with {named}") + " " + _sentence(f"{_seen_time(hour)} {fog}, {ground}")
    else:
        text = _sentence(f"{place} {hour} {fog}, {ground}") + (" " + _sentence(named) if named else "")
    for extra in extras:
        if len(text.split()) + len(extra.split()) <= 44:
            text += " " + _sentence(extra)
    return _shorten(text)


def _seen_time(hour: str) -> str:
    return hour if hour.split()[0] != "as" else "seen " + hour


def _things(layout: Layout, seen: Seen, draws: Draws) -> list[str]:
    """Phrases for the most visible things; alike ones are counted together."""
    order = [i for i in np.argsort(-seen.share) if seen.share[i] >= MIN_SHARE and layout.things[i].noun != "hill"]
    order = order[: draws.integer(5, 8)]
    groups: dict[str, list[int]] = {}
    for i in order:
        groups.setdefault(layout.things[i].noun, []).append(int(i))
    phrases = []
    for members in list(groups.values())[: draws.integer(2, 4)]:
        first = layout.things[members[0]]
        if len(members) == 1:
            phrase = _article(_describe(first, draws))
            if seen.first[members[0]] >= MIN_SHARE and draws.chance(0.7):
                phrase += " " + _where(float(seen.side[members[0]]), float(seen.distance[members[0]]), draws)
            phrases.append(phrase)
            continue
        shared = [
            w for w, n in Counter(w for i in members for w in layout.things[i].words).items() if n == len(members)
        ]
        number = draws.choice(_NUMBERS.get(len(members), ("several", "many")))
        phrases.append(" ".join([number, *shared, _plural(draws.choice(_SYNONYMS.get(first.noun, (first.noun,))[:2]))]))
    return phrases


def _describe(thing: Placed, draws: Draws) -> str:
    words = thing.words if draws.chance(0.8) else thing.words[:1]
    return " ".join([*words, draws.choice(_SYNONYMS.get(thing.noun, (thing.noun,)))])


def _where(side: float, distance: float, draws: Draws) -> str:
    across = (
        draws.choice(("on the left", "to the left", "at left"))
        if side < 0.36
        else draws.choice(("on the right", "to the right", "at right"))
        if side > 0.64
        else draws.choice(("in the middle", "straight ahead", "in the centre"))
    )
    if distance < 5 and draws.chance(0.5):
        return draws.choice(("close by", "nearby", "in the foreground")) + " " + across
    if distance > 11 and draws.chance(0.6):
        return draws.choice(("further away", "in the background", "in the distance")) + " " + across
    return across


def _extras(layout: Layout, seen: Seen, draws: Draws) -> list[str]:
    """Short sentences on road, horizon and sky, in random order; a share of them is left out."""
    weather = layout.weather
    found = []
    if seen.road:
        road = _article(weather.road)
        found.append(draws.choice((f"{road} runs through the scene", f"{road} crosses the ground", f"there is {road}")))
    if weather.mountains and seen.horizon:
        found.append(
            draws.choice(("mountains on the horizon", "far mountains behind", "a ridge of hills in the distance"))
        )
    elif any(t.noun == "hill" and seen.share[i] > MIN_SHARE for i, t in enumerate(layout.things)):
        found.append(draws.choice(("low hills behind", "rounded hills in the background")))
    if seen.sky > 0.1:
        if seen.sun and not weather.foggy and weather.hour != "overcast":
            low = {"night": "the moon is up", "noon": "the sun shines in the sky"}.get(
                weather.hour, "the sun hangs low"
            )
            found.append(low)
        if weather.cloudy and weather.hour != "overcast":
            found.append(draws.choice(_CLOUDY))
        elif not weather.foggy:
            found.append(draws.choice(_SKIES[weather.hour]))
    return [extra for extra in draws.shuffled(found) if draws.chance(0.75)]


_UNCOUNTED = frozenset(material.word for material, _ in GROUNDS.values())


def _article(phrase: str) -> str:
    if phrase in _UNCOUNTED:
        return phrase
    return ("an " if phrase[0] in "aeio" else "a ") + phrase


def _plural(noun: str) -> str:
    return _PLURALS.get(noun, noun + "s")


def _join(phrases: list[str]) -> str:
    if len(phrases) < 2:
        return "".join(phrases)
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _sentence(text: str) -> str:
    text = " ".join(text.split()).replace(" ,", ",").replace(" :", ":").strip(" ,")
    return text[:1].upper() + text[1:] + "."


def _shorten(text: str) -> str:
    """Drop sentences from the end until at most 45 words are left."""
    sentences = text.split(". ")
    while len(sentences) > 1 and len(" ".join(sentences).split()) > 45:
        sentences.pop()
    return (
        sentences[0] if len(sentences) == 1 and sentences[0].endswith(".") else ". ".join(sentences).rstrip(".") + "."
    )
