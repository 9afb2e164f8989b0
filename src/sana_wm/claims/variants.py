"""The models that the claims are about: one recipe, and for each of them what it has different. Data, not code."""

from __future__ import annotations

from dataclasses import dataclass

from sana_wm.errors import InputError

RECIPE = "claims"

SCHEDULES = {
    "hybrid": (),
    "gdn": ("world.model.softmax_every_n=99",),
    "softmax": ("world.model.softmax_every_n=1",),
}
"""Which blocks attend with softmax: every second one, none, all."""

CAMERAS = {
    "none": ("world.model.camera_paths=[]",),
    "plucker": ("world.model.camera_paths=[plucker]",),
    "ucpe": ("world.model.camera_paths=[ucpe]",),
    "both": (),
}
"""How a camera gets into the model; "both" is the hybrid of `SCHEDULES`, trained once."""

KEY_SCALES = ("frame", "head", "none")
"""Keys over sqrt(D*S), over sqrt(D), as they are; of the hybrid's GDN blocks."""

SECOND_PART = ("world.fresh=false", "world.optimizer.steps=400", "world.optimizer.warmup_steps=40")
MINUTES = {
    "short": SECOND_PART,
    "long": (
        *SECOND_PART,
        "world.lengths=[{frames: 81, bank: 81, batch: 16, share: 0.7}, "
        "{frames: 241, bank: 961, batch: 5, share: 0.15}, {frames: 961, bank: 961, batch: 1, share: 0.15}]",
        "world.bank_clips={81: 768, 961: 64}",
    ),
}
"""Going on from the hybrid with as many steps of about as many tokens: clips of 5 s only, or of up to a minute too."""

BASE = "hybrid"


@dataclass(frozen=True)
class Variant:
    """A model to train.

    Attributes:
        name: of its folder.
        overrides: of the recipe, as of `--set`.
        after: the variant whose weights it goes on from; None begins anew.
    """

    name: str
    overrides: tuple[str, ...]
    after: str | None = None


def variants(claims: tuple[str, ...], seeds: int) -> list[Variant]:
    """What has to be trained for `claims` ("schedule", "camera", "minute"), what others go on from first.

    `seeds` of each but those of the minute, which are trained once.
    """
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; it must be at least 1.")
    wanted: dict[str, tuple[str, ...]] = {}
    if {"schedule", "camera", "minute"} & set(claims):
        wanted[BASE] = ()
    if "schedule" in claims:
        wanted |= SCHEDULES
    if "camera" in claims:
        wanted |= {name: overrides for name, overrides in CAMERAS.items() if overrides}
    found = [
        Variant(f"{name}_{seed}", (*overrides, f"seed={seed}"))
        for seed in range(1, seeds + 1)
        for name, overrides in wanted.items()
    ]
    if "minute" in claims:
        found += [
            Variant(f"{name}_1", (*overrides, "seed=11"), after=f"{BASE}_1") for name, overrides in MINUTES.items()
        ]
    return found
